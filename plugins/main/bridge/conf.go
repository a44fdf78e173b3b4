package main

import (
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/endpoint/bridgenet"
)

// config is the wire configuration: the reference plugin's keys and ours, some of
// them shared with other networks on a bridge. README.md says what each means.
type config struct {
	bridgenet.Config
	IsGateway           bool    `json:"isGateway"`
	IsDefaultGateway    bool    `json:"isDefaultGateway"`
	ForceAddress        bool    `json:"forceAddress"`
	PromiscMode         bool    `json:"promiscMode"`
	VLAN                int     `json:"vlan"`
	VLANTrunk           []trunk `json:"vlanTrunk"`
	PreserveDefaultVLAN bool    `json:"preserveDefaultVlan"`
	MACSpoofCheck       bool    `json:"macspoofchk"`
	DisableInterface    bool    `json:"disableContainerInterface"`
}

// A trunk is one VLAN, or a range of them, that a port carries tagged.
type trunk struct {
	ID    *int `json:"id"`
	MinID *int `json:"minID"`
	MaxID *int `json:"maxID"`
}

func newConfig() cni.Config {
	return &config{Config: bridgenet.Config{Bridge: "cni0", ICC: true, Announce: true}}
}

// Validate implements cni.Config.
func (c *config) Validate(r *cni.Request, rep *conf.Report) {
	c.Layout = bridgenet.Layout{
		Uplink: c.uplink(), Gateway: c.IsGateway || c.IsDefaultGateway, Apart: c.VLAN != 0, Down: c.DisableInterface,
	}
	c.Config.Validate(rep, "that of the host's default route")
	rep.Range("vlan", c.VLAN, 0, conf.MaxVLAN)
	if c.VLAN > 0 && len(c.Bridge) <= conf.MaxLinkName && len(c.uplink()) > conf.MaxLinkName {
		rep.Conflict("bridge, vlan", "the host's link in the VLAN would be called %q, which has more than %d bytes; give the bridge a shorter name", c.uplink(), conf.MaxLinkName)
	}
	c.validateTrunk(rep)
	c.ValidatePolicy(rep)
	if c.Internal && c.IsDefaultGateway {
		rep.Conflict("internal, isDefaultGateway", "an internal network has no way out, so no default route")
	}
	if c.HairpinMode && c.PromiscMode {
		rep.Conflict("hairpinMode, promiscMode", "both are true; with both, a container gets its own packets twice. Keep hairpinMode")
	}
	if c.DisableInterface && r.HasIPAM() {
		rep.Conflict("disableContainerInterface, ipam", "an interface that stays down can have no address; set \"ipam\": {}")
	}
	c.ValidateRequest(r, rep)
}

func (c *config) validateTrunk(rep *conf.Report) {
	for i, t := range c.VLANTrunk {
		path := conf.Index("vlanTrunk", i)
		if t.ID == nil && t.MinID == nil && t.MaxID == nil || (t.MinID == nil) != (t.MaxID == nil) {
			rep.Conflict(path+".id, "+path+".minID, "+path+".maxID", "want id, or both minID and maxID")
			continue
		}
		if t.ID != nil {
			rep.Range(path+".id", *t.ID, 1, conf.MaxVLAN)
		}
		if t.MinID != nil {
			rep.Range(path+".minID", *t.MinID, 1, conf.MaxVLAN)
			rep.Range(path+".maxID", *t.MaxID, 1, conf.MaxVLAN)
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
		for id := max(*t.MinID, 1); id <= min(*t.MaxID, conf.MaxVLAN); id++ {
			ids = append(ids, id)
		}
	}
	return ids
}
