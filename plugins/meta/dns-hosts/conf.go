package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
)

// config is the wire configuration: dnsname's key, then ours. README.md says
// what each means.
type config struct {
	cni.Base
	DomainName string `json:"domainName"`

	ContainerName string    `json:"containerName"`
	Aliases       []string  `json:"aliases"`
	UniqueNames   bool      `json:"uniqueNames"`
	TTL           int       `json:"ttl"`
	Internal      bool      `json:"internal"`
	Capture       bool      `json:"capture"`
	Services      []service `json:"services"`
	NetNSFiles    bool      `json:"netnsFiles"`

	Args struct {
		CNI struct {
			Name    string   `json:"name"`
			Aliases []string `json:"aliases"`
		} `json:"cni" conf:"open"`
	} `json:"args" conf:"open"`
	RuntimeConfig struct {
		Aliases      json.RawMessage `json:"aliases"`
		PortMappings []portMapping   `json:"portMappings"`
		DNS          struct {
			Servers  []string `json:"servers"`
			Searches []string `json:"searches"`
			Options  []string `json:"options"`
		} `json:"dns" conf:"open"`
	} `json:"runtimeConfig" conf:"open"`

	names    []string // of all sources but the bundle, in the order of their rank
	named    bool     // by somebody, not only by the container's ID
	leftOut  []string // names that the runtime gave and that are none in DNS
	services []zone.Service
	servers  []netip.AddrPort
	search   []string
	options  []string
}

type service struct {
	Name     string `json:"name"`
	Port     int    `json:"port"`
	Protocol string `json:"protocol"`
}

// portMapping is what SRV needs of an element of runtimeConfig.portMappings,
// which portmap validates.
type portMapping struct {
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
}

const (
	defaultTTL = 5
	maxTTL     = 86400
	maxPort    = 65535
	dnsPort    = 53
)

func newConfig() cni.Config { return &config{TTL: defaultTTL} }

// Validate implements cni.Config.
func (c *config) Validate(r *cni.Request, rep *conf.Report) {
	if c.DomainName != "" {
		c.DomainName = c.name("domainName", strings.TrimSuffix(c.DomainName, "."), rep)
	}
	c.validateNames(r, rep)
	rep.Range("ttl", c.TTL, 0, maxTTL)
	for i, s := range c.Services {
		c.validateService(conf.Index("services", i), s, rep)
	}
	for _, m := range c.RuntimeConfig.PortMappings {
		c.addPublished(m)
	}
	c.validateResolver(rep)
}

// validateNames collects the names. What a runtime says of the one container
// ranks above what the network's configuration says, for PTR gives the first. Runtimes
// take names that DNS does not: those are left out, and the container starts.
func (c *config) validateNames(r *cni.Request, rep *conf.Report) {
	c.addGiven("args.cni.name", c.Args.CNI.Name)
	c.addGiven("CNI_ARGS K8S_POD_NAME", r.Args["K8S_POD_NAME"])
	if c.ContainerName != "" {
		c.add(c.name("containerName", c.ContainerName, rep))
	}
	c.named = len(c.names) > 0
	c.addGiven("CNI_ARGS NERDCTL_CNI_DHCP_HOSTNAME", r.Args["NERDCTL_CNI_DHCP_HOSTNAME"])
	for i, alias := range c.runtimeAliases(r, rep) {
		c.addGiven(conf.Index("runtimeConfig.aliases", i), alias)
	}
	for i, alias := range c.Args.CNI.Aliases {
		c.addGiven(conf.Index("args.cni.aliases", i), alias)
	}
	for i, alias := range c.Aliases {
		c.add(c.name(conf.Index("aliases", i), alias, rep))
	}
}

// runtimeAliases are those of the capability "aliases": a list as CONVENTIONS.md
// has it, or a map of lists by network, as podman and CRI-O send it.
func (c *config) runtimeAliases(r *cni.Request, rep *conf.Report) (aliases []string) {
	const path = "runtimeConfig.aliases"
	raw := bytes.TrimSpace(c.RuntimeConfig.Aliases)
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	if raw[0] != '{' {
		conf.DecodeAt(path, raw, &aliases, rep)
		return aliases
	}
	var byNetwork map[string][]string
	if err := json.Unmarshal(raw, &byNetwork); err != nil {
		rep.Bad(path, json.RawMessage(raw), `a list of names, or an object of such lists by network, as in {"net": ["web"]}`)
	}
	return byNetwork[r.Name]
}

// name validates a name of the configuration, and returns it as it is kept.
func (c *config) name(path, text string, rep *conf.Report) string {
	name, err := zone.ParseName(text)
	if err != nil {
		rep.Bad(path, text, zone.NameWanted)
	}
	return name
}

// addGiven adds a name that a runtime gives, if there is one.
func (c *config) addGiven(path, text string) {
	name, err := zone.ParseName(text)
	if err != nil && text != "" {
		c.leftOut = append(c.leftOut, fmt.Sprintf("%s: %.80q is left out of DNS and hosts files, want %s", path, text, zone.NameWanted))
	}
	c.add(name)
}

// add adds a name that is not there yet.
func (c *config) add(name string) {
	if name != "" && !slices.Contains(c.names, name) {
		c.names = append(c.names, name)
	}
}

func (c *config) validateService(path string, s service, rep *conf.Report) {
	name, err := zone.ParseName(s.Name)
	if err != nil || strings.Contains(name, ".") {
		rep.Bad(path+".name", s.Name, `one label, such as "http"`)
	}
	rep.Range(path+".port", s.Port, 1, maxPort)
	protocol, ok := protocolOf(s.Protocol)
	if !ok {
		rep.Bad(path+".protocol", s.Protocol, `"tcp", "udp" or "sctp"`)
	}
	c.services = append(c.services, zone.Service{Name: strings.TrimPrefix(name, "_"), Protocol: protocol, Port: uint16(s.Port)})
}

func protocolOf(s string) (string, bool) {
	switch p := strings.ToLower(s); p {
	case "":
		return "tcp", true
	case "tcp", "udp", "sctp":
		return p, true
	}
	return "", false
}

// addPublished makes a published port known by its number: _80._tcp.web.
func (c *config) addPublished(m portMapping) {
	protocol, ok := protocolOf(m.Protocol)
	if ok && m.ContainerPort > 0 && m.ContainerPort <= maxPort {
		s := zone.Service{Name: itoa(m.ContainerPort), Protocol: protocol, Port: uint16(m.ContainerPort)}
		if !slices.Contains(c.services, s) {
			c.services = append(c.services, s)
		}
	}
}

// validateResolver collects whom to ask what the zone does not know, and what goes
// into resolv.conf. The runtime's word for the one container counts before that
// for the network.
func (c *config) validateResolver(rep *conf.Report) {
	own := c.RuntimeConfig.DNS
	for _, list := range []struct {
		path  string
		addrs []string
	}{{"runtimeConfig.dns.servers", own.Servers}, {"dns.nameservers", c.DNS.Nameservers}} {
		parsed := c.parseServers(list.path, list.addrs, rep)
		if len(c.servers) == 0 {
			c.servers = parsed
		}
	}
	c.search = c.words("runtimeConfig.dns.searches", own.Searches, rep)
	if network := c.words("dns.search", c.DNS.Search, rep); len(own.Searches) == 0 {
		c.search = network
	}
	c.options = append(c.words("runtimeConfig.dns.options", own.Options, rep), c.words("dns.options", c.DNS.Options, rep)...)
	if c.DNS.Domain != "" {
		c.search = append(c.search, c.words("dns.domain", []string{c.DNS.Domain}, rep)...)
	}
	if c.DomainName != "" && !slices.Contains(c.search, c.DomainName) {
		c.search = append(c.search, c.DomainName)
	}
	if !slices.ContainsFunc(c.options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		c.options = append(c.options, "ndots:0") // a bare name is a container's before it is anything else
	}
}

func (c *config) parseServers(path string, addrs []string, rep *conf.Report) (out []netip.AddrPort) {
	for i, text := range addrs {
		server, err := netip.ParseAddrPort(text)
		if err != nil {
			var addr netip.Addr
			addr, err = netip.ParseAddr(text)
			server = netip.AddrPortFrom(addr.Unmap(), dnsPort)
		}
		if err != nil || server.Addr().IsUnspecified() || server.Addr().String() == zone.Resolver {
			rep.Bad(conf.Index(path, i), text, "the IP address of a DNS server other than %s, perhaps with a port, as in \"10.1.0.53:5353\"", zone.Resolver)
			continue
		}
		out = append(out, server)
	}
	return out
}

// words are such that each stays one word of one line of resolv.conf(5).
func (c *config) words(path string, words []string, rep *conf.Report) (out []string) {
	const limit = 253
	for i, w := range words {
		if w == "" || len(w) > limit || strings.ContainsFunc(w, func(r rune) bool { return r <= ' ' || r >= 127 || r == '#' || r == ';' }) {
			rep.Bad(conf.Index(path, i), w, "one word of resolv.conf")
			continue
		}
		out = append(out, w)
	}
	return out
}

// netnsName is the name under which ip-netns(8) knows a namespace, "" if it does
// not.
func netnsName(path string) string {
	dir, name := filepath.Split(filepath.Clean(path))
	if dir != "/run/netns/" && dir != "/var/run/netns/" {
		return ""
	}
	return name
}
