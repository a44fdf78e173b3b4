// Package bridgenet is the bridge network driver: a Linux bridge with the
// containers' veth pairs, the host's addresses as their gateway, the network's
// policy, and masquerading. Plugins that attach containers to a bridge embed its
// Config in their own, and build their plan from its parts.
package bridgenet

import (
	"net"
	"net/netip"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/endpoint"
	"github.com/dockyard-cni/dockyard/pkg/firewall/backend"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
)

// Config is the keys that all networks on a bridge share, beside those that all
// plugins have.
type Config struct {
	cni.Base
	Bridge            string   `json:"bridge"`
	MTU               int      `json:"mtu"`
	IPMasq            *bool    `json:"ipMasq"`
	IPMasqBackend     *string  `json:"ipMasqBackend"`
	HairpinMode       bool     `json:"hairpinMode"`
	PortIsolation     bool     `json:"portIsolation"`
	EnableDAD         bool     `json:"enabledad"`
	Internal          bool     `json:"internal"`
	ICC               bool     `json:"icc"`
	GatewayMode       nft.Mode `json:"gatewayMode"`
	GatewayModeIPv4   nft.Mode `json:"gatewayModeIPv4"`
	GatewayModeIPv6   nft.Mode `json:"gatewayModeIPv6"`
	TrustedInterfaces []string `json:"trustedInterfaces"`
	GatewayPriority   *int     `json:"gatewayPriority"`
	Announce          bool     `json:"announce"`
	AcceptRA          bool     `json:"acceptRA"`
	AntiSpoofing      bool     `json:"antiSpoofing"`

	AllowedAddresses []allowedAddress `json:"allowedAddresses"`

	MACArgs struct {
		CNI struct {
			MAC conf.MAC `json:"mac"`
		} `json:"cni"`
	} `json:"args" conf:"open"`
	RuntimeConfig struct {
		MAC conf.MAC `json:"mac"`
	} `json:"runtimeConfig" conf:"open"`

	Layout Layout

	mac     net.HardwareAddr // the one asked for, if any
	backend backend.Backend
	isolate bool // the port from other isolated ones
	allowed []nft.AllowedAddress
}

// An allowedAddress is one that a container uses for others.
type allowedAddress struct {
	Address string   `json:"address"`
	MAC     conf.MAC `json:"mac"`
}

// A Layout is what a plugin makes of its own keys.
type Layout struct {
	// Uplink is the link by which the host's packets to containers leave and
	// theirs come, which rules name: the bridge itself, unless it is set.
	Uplink string
	// Kin are further links of the host that lead into the same network: what
	// the host forwards between them and Uplink stays within it.
	Kin []string
	// Gateway says whether the host has an address in the network when no
	// gateway mode decides it.
	Gateway bool
	// Apart says that the host takes part only as a gateway: without one it has
	// no link to its containers.
	Apart bool
	// Down leaves the container's interface down, without addresses.
	Down bool
}

// Validate reports what is wrong with keys that stand for themselves.
func (c *Config) Validate(rep *conf.Report, mtuDefault string) {
	rep.LinkName("bridge", c.Bridge)
	rep.MTU("mtu", c.MTU, mtuDefault)
}

// ValidatePolicy reports what is wrong with the modes, and what excludes what.
func (c *Config) ValidatePolicy(rep *conf.Report) {
	c.validateModes(rep)
	for i, name := range c.TrustedInterfaces {
		rep.LinkName(conf.Index("trustedInterfaces", i), name)
	}
	if c.GatewayPriority != nil {
		rep.Range("gatewayPriority", *c.GatewayPriority, -endpoint.MaxPriority, endpoint.MaxPriority)
	}
}

// ValidateRequest takes over what the runtime asks for.
func (c *Config) ValidateRequest(r *cni.Request, rep *conf.Report) {
	c.backend = backend.Named("ipMasqBackend", c.IPMasqBackend, rep)
	c.isolate = c.PortIsolation || !c.ICC
	c.mac = r.MAC(rep, c.RuntimeConfig.MAC, c.MACArgs.CNI.MAC)
	c.validateAntiSpoofing(r, rep)
}

func (c *Config) validateAntiSpoofing(r *cni.Request, rep *conf.Report) {
	for i, a := range c.AllowedAddresses {
		prefix, err := netip.ParsePrefix(a.Address)
		if addr, failed := netip.ParseAddr(a.Address); failed == nil && addr.Zone() == "" {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if path := conf.Index("allowedAddresses", i) + ".address"; err != nil && !rep.Undecoded(path) {
			rep.Bad(path, a.Address, `an address or a subnet, such as "10.1.0.100" or "10.1.0.0/24"`)
			continue
		}
		c.allowed = append(c.allowed, nft.AllowedAddress{Prefix: prefix.Masked(), MAC: net.HardwareAddr(a.MAC)})
	}
	for i, a := range c.allowed {
		for j, b := range c.allowed[:i] {
			if a.MAC.String() == b.MAC.String() && a.Prefix.Overlaps(b.Prefix) {
				rep.Conflict(conf.Index("allowedAddresses", j)+", "+conf.Index("allowedAddresses", i), "%s and %s overlap; leave out the smaller", b.Prefix, a.Prefix)
			}
		}
	}
	switch {
	case !c.AntiSpoofing && len(c.AllowedAddresses) > 0:
		rep.Conflict("allowedAddresses, antiSpoofing", "all addresses are allowed without antiSpoofing; set \"antiSpoofing\": true")
	case c.AntiSpoofing && !r.HasIPAM() && len(c.AllowedAddresses) == 0:
		rep.Conflict("antiSpoofing, ipam", "without an IPAM plugin the container's addresses are not known; list them in allowedAddresses")
	}
}

func (c *Config) validateModes(rep *conf.Report) {
	for _, m := range []struct {
		path string
		mode nft.Mode
	}{{"gatewayMode", c.GatewayMode}, {"gatewayModeIPv4", c.GatewayModeIPv4}, {"gatewayModeIPv6", c.GatewayModeIPv6}} {
		switch m.mode {
		case nft.Open, nft.NAT, nft.Unprotected, nft.Routed:
		case nft.Isolated:
			if !c.Internal {
				rep.Conflict(m.path+", internal", `%q is for internal networks only; set "internal": true`, m.mode)
			}
		default:
			rep.Bad(m.path, m.mode, `"nat", "nat-unprotected", "routed" or "isolated"`)
		}
	}
	if len(c.TrustedInterfaces) > 0 && c.Internal {
		rep.Conflict("internal, trustedInterfaces", "nothing reaches an internal network from outside")
	}
}

// Mode returns the gateway mode of one family.
func (c *Config) Mode(ipv6 bool) nft.Mode {
	own := c.GatewayModeIPv4
	if ipv6 {
		own = c.GatewayModeIPv6
	}
	if own != "" {
		return own
	}
	return c.GatewayMode
}

// HasGateway reports whether the host has an address of the family in the
// network.
func (c *Config) HasGateway(ipv6 bool) bool {
	switch c.Mode(ipv6) {
	case nft.Isolated:
		return false
	case nft.Open:
		return c.Layout.Gateway
	}
	return true
}

// masquerade reports whether the family's outgoing traffic is masqueraded.
func (c *Config) masquerade(ipv6 bool) bool {
	switch c.Mode(ipv6) {
	case nft.NAT, nft.Unprotected:
		return !c.Internal && (c.IPMasq == nil || *c.IPMasq)
	case nft.Open:
		return !c.Internal && c.IPMasq != nil && *c.IPMasq
	}
	return false
}
