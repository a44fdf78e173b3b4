package main

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/firewall/backend"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
)

// config is the wire configuration: the reference plugin's keys, then ours.
// README.md says what each means.
type config struct {
	cni.Base
	Backend              *string   `json:"backend"`
	SNAT                 bool      `json:"snat"`
	MasqAll              bool      `json:"masqAll"`
	MarkMasqBit          *int      `json:"markMasqBit"`
	ExternalSetMarkChain *string   `json:"externalSetMarkChain"`
	ConditionsV4         *[]string `json:"conditionsV4"`
	ConditionsV6         *[]string `json:"conditionsV6"`

	GatewayMode     string   `json:"gatewayMode"`
	GatewayModeIPv4 string   `json:"gatewayModeIPv4"`
	GatewayModeIPv6 string   `json:"gatewayModeIPv6"`
	Listeners       listener `json:"hostListeners"`

	RuntimeConfig struct {
		PortMappings []portMapping `json:"portMappings"`
	} `json:"runtimeConfig" conf:"open"`

	mappings []mapping
	ofPort   map[hostPort][]int // which of mappings publish it, at whatever address
	backend  backend.Backend
	via      string // the host's link by which it reaches the container
}

// portMapping is one element of runtimeConfig.portMappings (CONVENTIONS.md).
type portMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

// mapping is a portMapping that has been judged.
type mapping struct {
	hostPort, containerPort uint16
	protocol                nat.Protocol
	hostIP                  netip.Addr // the zero Addr: all of both families
}

// A hostPort is a port of the host, at whatever address.
type hostPort struct {
	port     uint16
	protocol nat.Protocol
}

// listener says what to do about a host port on which a process of the host
// listens.
type listener string

const (
	allow  listener = "allow"
	refuse listener = "refuse"
)

const (
	maxPort        = 65535
	defaultMarkBit = 13
)

func newConfig() cni.Config { return &config{SNAT: true, Listeners: allow} }

// Validate implements cni.Config.
func (c *config) Validate(_ *cni.Request, rep *conf.Report) {
	if name := backend.IPTables().Name; c.Backend == nil && c.meansIPTables() {
		c.Backend = &name
	}
	before := len(rep.Problems())
	c.backend = backend.Named("backend", c.Backend, rep)
	if len(rep.Problems()) == before && !rep.Undecoded("backend") {
		c.validateConditions(rep) // each backend has its own words
	}
	c.validateMarks(rep)
	c.validateModes(rep)
	if c.Listeners != allow && c.Listeners != refuse {
		rep.Bad("hostListeners", c.Listeners, `"allow" or "refuse"`)
	}
	c.ofPort = map[hostPort][]int{}
	for i, m := range c.RuntimeConfig.PortMappings {
		c.validateMapping(conf.Index("runtimeConfig.portMappings", i), m, rep)
	}
}

// meansIPTables reports whether a configuration that names no backend was
// written for iptables: it names a chain of it, or has conditions in words that
// only iptables knows.
func (c *config) meansIPTables() bool {
	if c.ExternalSetMarkChain != nil {
		return true
	}
	return slices.ContainsFunc(c.conditions(), func(cond condition) bool {
		return cond.words != nil && nft.OnlyIPTablesKnows(*cond.words)
	})
}

// A condition is the conditions of one family, nil where there are none.
type condition struct {
	path  string
	ipv6  bool
	words *[]string
}

func (c *config) conditions() []condition {
	return []condition{{"conditionsV4", false, c.ConditionsV4}, {"conditionsV6", true, c.ConditionsV6}}
}

func (c *config) validateMarks(rep *conf.Report) {
	if c.MarkMasqBit != nil {
		rep.Range("markMasqBit", *c.MarkMasqBit, 0, 31)
		if c.ExternalSetMarkChain != nil {
			rep.Conflict("markMasqBit, externalSetMarkChain", "both are given, want one of them")
		}
	}
	if s := c.ExternalSetMarkChain; s != nil && (*s == "" || len(*s) > 28 || strings.HasPrefix(*s, "-") || strings.ContainsAny(*s, " \t\n")) {
		rep.Bad("externalSetMarkChain", *s, "the name of an iptables chain, 1 to 28 bytes without space, that does not begin with '-'")
	}
}

func (c *config) validateModes(rep *conf.Report) {
	for _, m := range []struct{ path, mode string }{
		{"gatewayMode", c.GatewayMode}, {"gatewayModeIPv4", c.GatewayModeIPv4}, {"gatewayModeIPv6", c.GatewayModeIPv6},
	} {
		switch m.mode {
		case "", "nat", "nat-unprotected", "routed":
		default:
			rep.Bad(m.path, m.mode, `"nat", "nat-unprotected" or "routed"; the same as the network's bridge has`)
		}
	}
	if (c.routed(false) || c.routed(true)) && c.backend.Name == "iptables" {
		rep.Conflict("gatewayMode, backend", "routed networks are filtered by nftables; take backend out")
	}
}

func (c *config) validateConditions(rep *conf.Report) {
	for _, cond := range c.conditions() {
		if cond.words == nil {
			continue
		}
		if err := c.backend.Conditions(cond.ipv6, *cond.words); err != nil {
			rep.Conflict(cond.path, "%v", err)
		}
	}
}

// validateMapping judges one mapping. Runtimes leave out one whose hostPort is 0,
// and pick a port themselves where any will do.
func (c *config) validateMapping(path string, m portMapping, rep *conf.Report) {
	before := len(rep.Problems())
	rep.Range(path+".hostPort", m.HostPort, 1, maxPort)
	rep.Range(path+".containerPort", m.ContainerPort, 1, maxPort)
	protocol, ok := nat.ParseProtocol(m.Protocol)
	if !ok {
		rep.Bad(path+".protocol", m.Protocol, `"tcp", "udp" or "sctp"`)
	}
	var hostIP netip.Addr
	if m.HostIP != "" {
		var err error
		hostIP, err = netip.ParseAddr(m.HostIP)
		if err != nil || hostIP.Zone() != "" {
			rep.Bad(path+".hostIP", m.HostIP, `an IP address of this host, or "" for all`)
		}
		hostIP = hostIP.Unmap()
	}
	if len(rep.Problems()) > before || rep.Undecoded(path+".hostPort") || rep.Undecoded(path+".hostIP") {
		c.mappings = append(c.mappings, mapping{}) // overlaps with none
		return
	}
	n := mapping{uint16(m.HostPort), uint16(m.ContainerPort), protocol, hostIP}
	for _, i := range c.ofPort[n.port()] {
		if all(n.hostIP, c.mappings[i].hostIP) || all(c.mappings[i].hostIP, n.hostIP) || n.hostIP == c.mappings[i].hostIP {
			rep.Conflict(path, "publishes the same host port as runtimeConfig.portMappings[%d]", i)
			break
		}
	}
	c.ofPort[n.port()] = append(c.ofPort[n.port()], len(c.mappings))
	c.mappings = append(c.mappings, n)
}

func (m mapping) port() hostPort { return hostPort{m.hostPort, m.protocol} }

// all reports whether a stands for all addresses of b's family.
func all(a, b netip.Addr) bool {
	return !a.IsValid() || a.IsUnspecified() && a.Is4() == b.Is4()
}

// routed reports whether the family's ports are only opened at the container's
// own address.
func (c *config) routed(ipv6 bool) bool {
	own := c.GatewayModeIPv4
	if ipv6 {
		own = c.GatewayModeIPv6
	}
	if own == "" {
		own = c.GatewayMode
	}
	return own == "routed"
}

func (c *config) source() nat.Source {
	switch {
	case c.MasqAll:
		return nat.All
	case c.SNAT:
		return nat.Hairpin
	}
	return nat.Keep
}

func (c *config) markBit() int {
	if c.MarkMasqBit != nil {
		return *c.MarkMasqBit
	}
	return defaultMarkBit
}
