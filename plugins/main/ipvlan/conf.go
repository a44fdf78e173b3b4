package main

import (
	"encoding/json"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/endpoint/childlink"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
)

// config is the wire configuration; what it shares with macvlan's is in
// childlink.Config. README.md says what each key means.
type config struct {
	childlink.Config
	Flag string `json:"flag"`
}

func newConfig() cni.Config {
	c := &config{Config: childlink.Defaults(link.Driver{Kind: link.Ipvlan, Mode: "l2"}), Flag: "bridge"}
	c.Chains = true
	return c
}

// Validate implements cni.Config.
func (c *config) Validate(r *cni.Request, rep *conf.Report) {
	childlink.OneOf(rep, "flag", c.Flag, link.Flags())
	c.Driver.Flag = c.Flag
	c.Config.Validate(r, rep)
	var asked struct {
		MAC json.RawMessage `json:"mac"`
	}
	_ = json.Unmarshal(c.AnyRuntimeConfig, &asked) // another's keys may be of any type
	if _, inArgs := r.Args["MAC"]; inArgs || asked.MAC != nil {
		rep.Warn("CNI_ARGS MAC, runtimeConfig.mac", "ignored: an ipvlan link has the hardware address of its master")
	}
}
