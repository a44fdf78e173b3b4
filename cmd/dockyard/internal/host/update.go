package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"

	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/spec"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/sysctl"
)

// A step of an update can be taken back.
type step struct {
	what     string
	do, undo func(context.Context) error
}

// Update changes a network and what is attached to it, while it runs. It returns what
// it has done, or would do. Where a step fails, those before it are taken back.
func (h *Host) Update(ctx context.Context, n *inventory.Network, c spec.Change, dryRun bool) ([]string, error) {
	steps, err := h.steps(ctx, n, c)
	if err != nil {
		return nil, err
	}
	var done []string
	for i, s := range steps {
		if dryRun {
			done = append(done, s.what)
			continue
		}
		if err := s.do(ctx); err != nil {
			err = fmt.Errorf("%s: %w", s.what, err)
			for ; i >= 0; i-- {
				if back := steps[i].undo(context.WithoutCancel(ctx)); back != nil {
					err = errors.Join(err, fmt.Errorf("taking back: %s: %w", steps[i].what, back))
				}
			}
			return nil, err
		}
		done = append(done, s.what)
	}
	return done, nil
}

// steps are all that an update does: the kernel first, then what libcni remembers, and
// last the file.
func (h *Host) steps(ctx context.Context, n *inventory.Network, c spec.Change) ([]step, error) {
	if err := changeable(n, c); err != nil {
		return nil, err
	}
	meta := inventory.Metadata{Created: n.Created, Labels: n.Labels, Options: n.Options}
	text, err := spec.Edit(n.Raw, c, meta)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.File, err)
	}
	list, err := libcni.NetworkConfFromBytes(text)
	if err != nil {
		return nil, err
	}
	if err := h.CNI().GetStatusNetworkList(ctx, list); err != nil {
		return nil, fmt.Errorf("the plugins refuse the change, so nothing was changed: %w", err)
	}
	on := h.On(n.Name, inventory.Up)
	var steps []step
	if c.MTU != nil {
		steps = append(steps, mtuSteps(n, on, *c.MTU)...)
	}
	if c.ICC != nil {
		policy, err := policySteps(n, on, *c.ICC)
		if err != nil {
			return nil, err
		}
		steps = append(steps, policy...)
	}
	for _, a := range on {
		if a.Cached != nil {
			steps = append(steps, h.cacheStep(a, c, meta))
		}
	}
	return append(steps, fileStep(n.File, n.Raw, text)), nil
}

// changeable refuses what cannot be changed in place.
func changeable(n *inventory.Network, c spec.Change) error {
	switch {
	case n.Foreign() != "":
		return fmt.Errorf("network %s is %s's (%s), which has no update; edit the file, and connect the containers again", n.Name, n.Owner, n.File)
	case (c.MTU != nil || c.ICC != nil) && n.Driver != "bridge":
		return fmt.Errorf("of a network of driver %s the labels alone can be changed in place; edit %s, and connect the containers again", n.Driver, n.File)
	case (len(c.Labels) > 0 || len(c.Unlabel) > 0) && n.Owner != "dockyard":
		return fmt.Errorf("network %s was not created here (%s), so it has no labels", n.Name, n.File)
	}
	return nil
}

// mtuSteps sets the MTU of both ends of each pair, then of the bridge.
func mtuSteps(n *inventory.Network, on []*inventory.Attachment, mtu int) (steps []step) {
	add := func(ns *netns.NS, where, name string) {
		want := link.Settings{MTU: mtu}
		var before link.Settings
		steps = append(steps, step{
			what: fmt.Sprintf("%sip link set %s mtu %d", where, name, mtu),
			do: func(context.Context) (err error) {
				var index int
				if before, index, err = want.Found(ns, name); err != nil || index == 0 {
					return err
				}
				return want.Set(ns, name)
			},
			undo: func(context.Context) error {
				if !before.Any() {
					return nil
				}
				return before.Set(ns, name)
			},
		})
	}
	for _, a := range on {
		add(netns.At(a.NetNS), a.Title()+": ", a.IfName)
		add(netns.Host(), "", a.HostLink)
	}
	add(netns.Host(), "", n.Bridge)
	return steps
}

// policyConf is what decides on a bridge's policy, as bridgenet has it.
type policyConf struct {
	Internal          bool     `json:"internal"`
	ICC               *bool    `json:"icc"`
	PortIsolation     bool     `json:"portIsolation"`
	VLAN              int      `json:"vlan"`
	GatewayMode       nft.Mode `json:"gatewayMode"`
	GatewayModeIPv4   nft.Mode `json:"gatewayModeIPv4"`
	GatewayModeIPv6   nft.Mode `json:"gatewayModeIPv6"`
	TrustedInterfaces []string `json:"trustedInterfaces"`
}

func (p *policyConf) policy(bridge string, icc bool) nft.Policy {
	out := nft.Policy{
		Bridge: bridge, Internal: p.Internal, ICC: icc,
		V4: p.GatewayModeIPv4, V6: p.GatewayModeIPv6, Trusted: p.TrustedInterfaces,
	}
	if out.V4 == nft.Open {
		out.V4 = p.GatewayMode
	}
	if out.V6 == nft.Open {
		out.V6 = p.GatewayMode
	}
	return out
}

// policySteps lets the containers of a network talk to one another, or not.
func policySteps(n *inventory.Network, on []*inventory.Attachment, icc bool) ([]step, error) {
	list, err := libcni.NetworkConfFromBytes(n.Raw)
	if err != nil {
		return nil, err
	}
	var p policyConf
	if err = json.Unmarshal(list.Plugins[0].Bytes, &p); err != nil {
		return nil, err
	}
	if p.VLAN != 0 {
		return nil, fmt.Errorf("icc of a network in a VLAN of a bridge cannot be changed in place; edit %s, and connect the containers again", n.File)
	}
	before := p.ICC == nil || *p.ICC
	filtered, err := sysctl.BridgesFiltered()
	if err != nil {
		return nil, err
	}
	set := func(icc bool) func(context.Context) error {
		return func(ctx context.Context) error {
			if err := nft.Table().Apply(ctx); err != nil {
				return err
			}
			return p.policy(n.Bridge, icc).Resource().Apply(ctx)
		}
	}
	steps := []step{{what: fmt.Sprintf("policy of %s: icc %t", n.Bridge, icc), do: set(icc), undo: set(before)}}
	for _, a := range on {
		isolated := func(icc bool) func(context.Context) error {
			return func(context.Context) error {
				return link.SetIsolated(a.HostLink, p.PortIsolation || !icc && !filtered)
			}
		}
		steps = append(steps, step{
			what: fmt.Sprintf("bridge link set dev %s isolated %s", a.HostLink, link.OnOff(p.PortIsolation || !icc && !filtered)),
			do:   isolated(icc), undo: isolated(before),
		})
	}
	return steps, nil
}

// cacheStep changes the configuration that libcni remembers of an attachment, which
// its runtime checks and deletes it by.
func (h *Host) cacheStep(a *inventory.Attachment, c spec.Change, meta inventory.Metadata) step {
	var path string
	var before []byte
	return step{
		what: "libcni's cache of " + a.Title(),
		do: func(context.Context) (err error) {
			if path, before, err = h.cacheFile(a); err != nil {
				return err
			}
			var entry map[string]json.RawMessage
			if err = json.Unmarshal(before, &entry); err != nil {
				return err
			}
			config, err := spec.Edit(a.Cached.Config, c, meta)
			if err != nil {
				return err
			}
			if entry["config"], err = json.Marshal(config); err != nil {
				return err
			}
			if c.MTU != nil {
				if entry["result"], err = spec.ResultMTU(entry["result"], *c.MTU); err != nil {
					return err
				}
			}
			after, err := json.Marshal(entry)
			if err != nil {
				return err
			}
			return replace(path, after, 0o600)
		},
		undo: func(context.Context) error {
			if before == nil {
				return nil
			}
			return replace(path, before, 0o600)
		},
	}
}

// cacheFile reads what libcni remembers of an attachment (libcni/api.go).
func (h *Host) cacheFile(a *inventory.Attachment) (path string, b []byte, err error) {
	for _, dir := range h.CNIDirs {
		path = filepath.Join(dir, "results", fmt.Sprintf("%s-%s-%s", a.Network, a.ContainerID, a.IfName))
		if b, err = os.ReadFile(path); err == nil {
			return path, b, nil
		}
	}
	return path, nil, err
}

func fileStep(path string, before, after []byte) step {
	return step{
		what: "write " + path,
		do:   func(context.Context) error { return replace(path, after, 0o644) },
		undo: func(context.Context) error { return replace(path, before, 0o644) },
	}
}

// replace changes a file in one step. The new one is written in the directory above,
// where nobody reads it.
func replace(path string, b []byte, mode os.FileMode) error {
	temp := filepath.Join(filepath.Dir(path), temporary+"update")
	if filepath.Base(filepath.Dir(path)) == "results" {
		temp = filepath.Join(filepath.Dir(filepath.Dir(path)), temporary+"update")
	}
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := writeSynced(temp, b); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Chmod(temp, mode); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, path)
}
