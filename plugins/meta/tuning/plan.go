package main

import (
	"cmp"
	"context"
	"encoding/json"
	"path/filepath"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/sysctl"
	"github.com/dockyard-cni/dockyard/pkg/kernel/tuning"
)

// scopes: of the configuration only dataDir matters, and the default where it
// cannot be read.
func scopes(r *cni.Request) []engine.Scope {
	var c struct {
		DataDir string `json:"dataDir"`
	}
	if json.Unmarshal(r.Config, &c) != nil || !filepath.IsAbs(c.DataDir) {
		c.DataDir = defaultDataDir
	}
	return []engine.Scope{tuning.Scope{Dir: c.DataDir}}
}

// Resolve implements cni.Resolver: what the host's administrator allows. On
// CHECK a list that has changed since is no fault of the attachment.
func (c *config) Resolve(_ context.Context, a *cni.Attachment) error {
	if a.Checking {
		return nil
	}
	var rep conf.Report
	err := c.judgeAllowed(allowlistFile, &rep)
	if err == nil {
		err = rep.Err()
	}
	if err != nil {
		return cni.Errorf(cni.CodeConfig, "%w", err)
	}
	return nil
}

// Plan implements cni.Config. With nothing to change there is nothing to
// remember.
func (c *config) Plan(a *cni.Attachment) engine.Plan {
	var p engine.Plan
	t := tuning.Tuning{Dir: c.DataDir, Mark: a.Mark(), NS: a.NetNS, Link: a.Owner.IfName, Settings: c.wanted()}
	for _, s := range c.sysctls {
		t.Sysctls = append(t.Sysctls, sysctl.Value{Name: s.Name, Value: s.Value.Value})
	}
	if t.Any() || len(t.Sysctls) > 0 {
		p.Own(t)
	}
	return p
}

// wanted: as with the reference plugin, an mtu of 0 and a promisc of false leave
// the interface as it is.
func (c *config) wanted() link.Settings {
	args := c.CNIArgs.CNI
	s := link.Settings{
		MAC: c.mac.String(), TxQLen: cmp.Or(args.TxQLen, c.TxQLen), AllMulti: cmp.Or(args.AllMulti, c.AllMulti),
	}
	if mtu := cmp.Or(args.MTU, c.MTU); mtu != nil {
		s.MTU = *mtu
	}
	if promisc := cmp.Or(args.Promisc, c.Promisc); promisc != nil && *promisc {
		s.Promisc = promisc
	}
	return s
}

// Report implements cni.Reporter: the interface's address and MTU are others now.
func (c *config) Report(a *cni.Attachment, res *current.Result) {
	s := c.wanted()
	for _, i := range res.Interfaces {
		if i.Name != a.Owner.IfName || i.Sandbox == "" {
			continue
		}
		i.Mac = cmp.Or(s.MAC, i.Mac)
		if i.Mtu != 0 {
			i.Mtu = cmp.Or(s.MTU, i.Mtu)
		}
	}
}
