package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
	"github.com/dockyard-cni/dockyard/pkg/ipam/lease"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
	"github.com/dockyard-cni/dockyard/pkg/kernel/vxlan"
)

// InUse is the error of a network that containers are attached to, in docker's words.
func InUse(n *inventory.Network, on []*inventory.Attachment) error {
	var who []string
	for _, a := range on {
		id := a.ContainerID
		who = append(who, fmt.Sprintf("name:%q id:%q", a.Title(), id[:min(12, len(id))]))
	}
	return fmt.Errorf("network %s has active endpoints (%s); disconnect them, or -f does", n.Name, strings.Join(who, ", "))
}

// Remove removes a network and what it has made on the host. The file goes first,
// so that no runtime attaches another container.
func (h *Host) Remove(ctx context.Context, n *inventory.Network, force bool) error {
	if who := n.Foreign(); who != "" {
		return fmt.Errorf("network %s is %s's (%s); use: %s rm %s", n.Name, n.Owner, n.File, who, n.Name)
	}
	on := h.On(n.Name)
	alive := slices.DeleteFunc(slices.Clone(on), func(a *inventory.Attachment) bool { return a.State == inventory.Gone })
	if len(alive) > 0 && !force {
		return InUse(n, alive)
	}
	for _, a := range on {
		if err := h.Detach(ctx, a); err != nil {
			return fmt.Errorf("network %s: %s: %w", n.Name, a.Title(), err)
		}
	}
	if err := os.Remove(n.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return h.teardown(ctx, n)
}

// teardown takes away what a network shares between its containers: it goes on past
// what fails, and names that. The bridge goes last, as it is by the bridge that prune
// finds what is left of a network whose removal was interrupted.
func (h *Host) teardown(ctx context.Context, n *inventory.Network) error {
	var errs []error
	if n.DataDir != "" {
		errs = append(errs, lease.RemoveNetwork(ctx, n.DataDir, n.Name))
	}
	bridge := n.Bridge
	if by := h.sharedBy(n); by != "" {
		h.Warn(fmt.Sprintf("bridge %s stays, as network %s is on it, too", bridge, by))
		bridge = ""
	}
	if n.Driver == "overlay" {
		errs = append(errs, h.overlay(ctx, n.Name), os.RemoveAll(filepath.Join("/run/dockyard/overlay", n.Name+".json")))
		for _, s := range n.Subnets {
			errs = append(errs, route.Unreachable{Dst: s.Subnet}.Remove(ctx))
		}
	}
	if bridge != "" {
		errs = append(errs, h.links(ctx, bridge), h.bridge(ctx, n))
	}
	return errors.Join(errs...)
}

// overlay deletes the VXLAN device of a network.
func (h *Host) overlay(ctx context.Context, network string) error {
	mark := vxlan.MarkOf(network)
	for _, l := range h.Links {
		if l.Alias != string(mark) {
			continue
		}
		_, err := link.DeleteByAlias(l.Name, mark)
		return errors.Join(h.links(ctx, l.Name), err)
	}
	return nil
}

// sharedBy is another network on the same bridge.
func (h *Host) sharedBy(n *inventory.Network) string {
	for _, o := range h.Networks {
		if o.Name != n.Name && o.Bridge == n.Bridge && n.Bridge != "" {
			return o.Name
		}
	}
	return ""
}

// links removes what the firewall holds for a link of the host.
func (h *Host) links(ctx context.Context, name string) error {
	found, err := nft.OfLink(ctx, name)
	errs := []error{err}
	for _, f := range found {
		errs = append(errs, f.Remove(ctx))
	}
	if err := nft.ForwardAccept(name).Remove(ctx); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// bridge deletes the bridge of a network, if it was made for it.
func (h *Host) bridge(ctx context.Context, n *inventory.Network) error {
	if err := h.vlan(ctx, n); err != nil {
		return err
	}
	gone, err := link.DeleteByAlias(n.Bridge, link.BridgeMark(n.Name))
	if err != nil || gone {
		return err
	}
	for _, l := range h.Links {
		if l.Name == n.Bridge {
			h.Warn(fmt.Sprintf("bridge %s stays, as it was not made for network %s", n.Bridge, n.Name))
		}
	}
	return nil
}

// vlan removes what the firewall holds for the host's own link in a VLAN of the
// bridge, which is deleted with it.
func (h *Host) vlan(ctx context.Context, n *inventory.Network) error {
	if n.VLAN == 0 {
		return nil
	}
	return h.links(ctx, link.BridgeVLAN{Bridge: n.Bridge, ID: n.VLAN}.Name())
}

// A Pruned is something that prune removes.
type Pruned struct {
	What   string
	Remove func(context.Context) error
}

// Unused lists the networks that were created here and that nobody is attached to,
// what is left of attachments that are gone, and what is left of networks whose file
// is.
func (h *Host) Unused(wanted func(*inventory.Network) bool) (networks, orphans []Pruned) {
	for i := range h.Networks {
		n := &h.Networks[i]
		alive := h.On(n.Name, inventory.Up, inventory.Unknown)
		if n.Owner == "dockyard" && n.Problem == "" && len(alive) == 0 && wanted(n) {
			networks = append(networks, Pruned{n.Name, func(ctx context.Context) error { return h.Remove(ctx, n, false) }})
		}
	}
	for _, a := range h.Attachments {
		if a.State == inventory.Gone && a.Cached != nil {
			what := fmt.Sprintf("%s (%s): %s", a.Mark, strings.Join(a.Parts(), ", "), a.Reason)
			orphans = append(orphans, Pruned{what, func(ctx context.Context) error { return h.Detach(ctx, a) }})
		}
	}
	for _, l := range h.Links {
		if n := h.leftover(l.Alias); n != nil {
			n.Bridge = l.Name
			what := fmt.Sprintf("bridge %s: network %s is gone", l.Name, n.Name)
			orphans = append(orphans, Pruned{what, func(ctx context.Context) error {
				return errors.Join(lease.RemoveNetwork(ctx, inventory.DefaultDataDir, n.Name),
					h.overlay(ctx, n.Name), h.links(ctx, n.Bridge), h.bridge(ctx, n))
			}})
		}
	}
	return networks, orphans
}

// leftover is the network of a bridge whose file is gone, and that nobody is on.
func (h *Host) leftover(alias string) *inventory.Network {
	m := owner.Mark(alias)
	if !m.Valid() || !m.OnNetwork("*") || !strings.HasSuffix(alias, "/bridge") {
		return nil
	}
	name := m.Container()
	if link.BridgeMark(name) != m || len(h.On(name)) > 0 {
		return nil // a cut name is not known to be gone
	}
	if _, err := h.Network(name); err == nil {
		return nil
	}
	for _, n := range h.Networks {
		if n.Name == name {
			return nil
		}
	}
	return &inventory.Network{Name: name}
}
