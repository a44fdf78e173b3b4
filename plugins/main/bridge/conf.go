package main

import (
	"net"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/attach"
	"github.com/dockyard-cni/dockyard/pkg/backend"
	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/conf"
	"github.com/dockyard-cni/dockyard/pkg/nft"
)

// config is the wire configuration: the reference plugin's keys, then ours.
// README.md says what each means.
type config struct {
	cni.Base
	Bridge              string  `json:"bridge"`
	IsGateway           bool    `json:"isGateway"`
	IsDefaultGateway    bool    `json:"isDefaultGateway"`
	ForceAddress        bool    `json:"forceAddress"`
	IPMasq              *bool   `json:"ipMasq"`
	IPMasqBackend       *string `json:"ipMasqBackend"`
	MTU                 int     `json:"mtu"`
	HairpinMode         bool    `json:"hairpinMode"`
	PromiscMode         bool    `json:"promiscMode"`
	VLAN                int     `json:"vlan"`
	VLANTrunk           []trunk `json:"vlanTrunk"`
	PreserveDefaultVLAN bool    `json:"preserveDefaultVlan"`
	MACSpoofCheck       bool    `json:"macspoofchk"`
	EnableDAD           bool    `json:"enabledad"`
	DisableInterface    bool    `json:"disableContainerInterface"`
	PortIsolation       bool    `json:"portIsolation"`

	Internal          bool     `json:"internal"`
	ICC               bool     `json:"icc"`
	GatewayMode       nft.Mode `json:"gatewayMode"`
	GatewayModeIPv4   nft.Mode `json:"gatewayModeIPv4"`
	GatewayModeIPv6   nft.Mode `json:"gatewayModeIPv6"`
	TrustedInterfaces []string `json:"trustedInterfaces"`
	GatewayPriority   *int     `json:"gatewayPriority"`
	Announce          bool     `json:"announce"`

	MACArgs struct {
		CNI struct {
			MAC conf.MAC `json:"mac"`
		} `json:"cni"`
	} `json:"args" conf:"open"`
	RuntimeConfig struct {
		MAC conf.MAC `json:"mac"`
	} `json:"runtimeConfig" conf:"open"`

	mac     net.HardwareAddr // the one asked for, if any
	backend backend.Backend
	isolate bool // the port from other isolated ones
}

// A trunk is one VLAN, or a range of them, that a port carries tagged.
type trunk struct {
	ID    *int `json:"id"`
	MinID *int `json:"minID"`
	MaxID *int `json:"maxID"`
}

const (
	maxVLAN = 4094
	minMTU  = 68 // ETH_MIN_MTU
	maxMTU  = 65535
)

func newConfig() cni.Config { return &config{Bridge: "cni0", ICC: true, Announce: true} }

// Validate implements cni.Config.
func (c *config) Validate(r *cni.Request, rep *conf.Report) {
	rep.LinkName("bridge", c.Bridge)
	if c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxMTU) {
		rep.Bad("mtu", c.MTU, "%d to %d, or 0 for that of the host's default route", minMTU, maxMTU)
	}
	rep.Range("vlan", c.VLAN, 0, maxVLAN)
	if c.VLAN > 0 && len(c.Bridge) <= conf.MaxLinkName && len(c.uplink()) > conf.MaxLinkName {
		rep.Conflict("bridge, vlan", "the host's link in the VLAN would be called %q, which has more than %d bytes; give the bridge a shorter name", c.uplink(), conf.MaxLinkName)
	}
	c.validateTrunk(rep)
	c.validateModes(rep)
	for i, name := range c.TrustedInterfaces {
		rep.LinkName(conf.Index("trustedInterfaces", i), name)
	}
	if c.GatewayPriority != nil {
		rep.Range("gatewayPriority", *c.GatewayPriority, -attach.MaxPriority, attach.MaxPriority)
	}
	if c.HairpinMode && c.PromiscMode {
		rep.Conflict("hairpinMode, promiscMode", "both are true; with both, a container gets its own packets twice. Keep hairpinMode")
	}
	if c.DisableInterface && r.HasIPAM() {
		rep.Conflict("disableContainerInterface, ipam", "an interface that stays down can have no address; set \"ipam\": {}")
	}
	c.backend = backend.Named("ipMasqBackend", c.IPMasqBackend, rep)
	c.isolate = c.PortIsolation || !c.ICC
	c.mac = r.MAC(rep, c.RuntimeConfig.MAC, c.MACArgs.CNI.MAC)
}

func (c *config) validateTrunk(rep *conf.Report) {
	for i, t := range c.VLANTrunk {
		path := conf.Index("vlanTrunk", i)
		if t.ID == nil && t.MinID == nil && t.MaxID == nil || (t.MinID == nil) != (t.MaxID == nil) {
			rep.Conflict(path+".id, "+path+".minID, "+path+".maxID", "want id, or both minID and maxID")
			continue
		}
		if t.ID != nil {
			rep.Range(path+".id", *t.ID, 1, maxVLAN)
		}
		if t.MinID != nil {
			rep.Range(path+".minID", *t.MinID, 1, maxVLAN)
			rep.Range(path+".maxID", *t.MaxID, 1, maxVLAN)
			if *t.MinID > *t.MaxID {
				rep.Conflict(path+".minID, "+path+".maxID", "found %d and %d, want the first not above the second", *t.MinID, *t.MaxID)
			}
		}
	}
	for i, t := range c.VLANTrunk {
		if c.VLAN != 0 && slices.Contains(t.ids(), c.VLAN) {
			rep.Conflict("vlan, "+conf.Index("vlanTrunk", i), "VLAN %d is both untagged and tagged", c.VLAN)
		}
	}
}

// ids returns the VLANs of a valid trunk; of another, those that there can be.
func (t trunk) ids() (ids []int) {
	if t.ID != nil {
		ids = append(ids, *t.ID)
	}
	if t.MinID != nil && t.MaxID != nil {
		for id := max(*t.MinID, 1); id <= min(*t.MaxID, maxVLAN); id++ {
			ids = append(ids, id)
		}
	}
	return ids
}

func (c *config) validateModes(rep *conf.Report) {
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
	if c.Internal && c.IsDefaultGateway {
		rep.Conflict("internal, isDefaultGateway", "an internal network has no way out, so no default route")
	}
	if len(c.TrustedInterfaces) > 0 && c.Internal {
		rep.Conflict("internal, trustedInterfaces", "nothing reaches an internal network from outside")
	}
}

// mode returns the gateway mode of one family.
func (c *config) mode(ipv6 bool) nft.Mode {
	own := c.GatewayModeIPv4
	if ipv6 {
		own = c.GatewayModeIPv6
	}
	if own != "" {
		return own
	}
	return c.GatewayMode
}

// gateway reports whether the bridge has an address of the family.
func (c *config) gateway(ipv6 bool) bool {
	switch c.mode(ipv6) {
	case nft.Isolated:
		return false
	case nft.Open:
		return c.IsGateway || c.IsDefaultGateway
	}
	return true
}

// masquerade reports whether the family's outgoing traffic is masqueraded.
func (c *config) masquerade(ipv6 bool) bool {
	switch c.mode(ipv6) {
	case nft.NAT, nft.Unprotected:
		return !c.Internal && (c.IPMasq == nil || *c.IPMasq)
	case nft.Open:
		return !c.Internal && c.IPMasq != nil && *c.IPMasq
	}
	return false
}
