package main

import (
	"net"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/endpoint/childlink"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
)

// config is the wire configuration; what it shares with ipvlan's is in
// childlink.Config. README.md says what each key means.
type config struct {
	childlink.Config
	MAC        conf.MAC   `json:"mac"`
	BCQueueLen uint32     `json:"bcqueuelen"`
	SourceMACs []conf.MAC `json:"sourceMACs"`

	MACArgs struct {
		CNI struct {
			MAC conf.MAC `json:"mac"`
		} `json:"cni"`
	} `json:"args" conf:"open"`
	RuntimeConfig struct {
		MAC conf.MAC `json:"mac"`
	} `json:"runtimeConfig" conf:"open"`
}

func newConfig() cni.Config {
	return &config{Config: childlink.Defaults(link.Driver{Kind: link.Macvlan, Mode: "bridge"})}
}

// Validate implements cni.Config.
func (c *config) Validate(r *cni.Request, rep *conf.Report) {
	c.Config.Validate(r, rep)
	c.Driver.BCQueueLen = c.BCQueueLen
	for _, mac := range c.SourceMACs {
		c.Driver.Sources = append(c.Driver.Sources, net.HardwareAddr(mac))
	}
	if c.Mode == "source" && len(c.SourceMACs) == 0 {
		rep.Missing("sourceMACs", `the hardware addresses whose frames the container gets; mode "source" lets no other in`)
	}
	if c.Mode != "source" && len(c.SourceMACs) > 0 {
		rep.Conflict("mode, sourceMACs", `sourceMACs is for mode "source", found %q`, c.Mode)
	}
	c.Address = r.MAC(rep, c.RuntimeConfig.MAC, c.MACArgs.CNI.MAC)
	if c.Address == nil {
		c.Address = net.HardwareAddr(c.MAC)
	}
	if c.Mode == link.Passthru && c.Address != nil {
		rep.Conflict("mode, mac", `in mode "passthru" the link has the address of its master; take the address %s out`, c.Address)
	}
}
