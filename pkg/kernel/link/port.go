package link

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A Port is the bridge port settings of a link.
type Port struct {
	Link     string
	Hairpin  bool // a frame may leave by the port it came from
	Isolated bool // as IsolatedPort; if not, a later plugin may set that
}

// Key implements engine.Resource.
func (p Port) Key() string { return "port " + p.Link }

func (p Port) String() string {
	return fmt.Sprintf("bridge link set dev %s hairpin %s isolated %s", p.Link, OnOff(p.Hairpin), OnOff(p.Isolated))
}

// Observe implements engine.Resource.
func (p Port) Observe(context.Context) (engine.Diff, error) {
	h, l, err := Find(netns.Host(), p.Link)
	if err != nil || l == nil {
		return engine.Absent, err
	}
	info, err := h.LinkGetProtinfo(l)
	if err != nil {
		return engine.Same, fmt.Errorf("port %s: %w", p.Link, err)
	}
	return engine.First(
		engine.Differ("hairpin", info.Hairpin, p.Hairpin),
		engine.Differ("isolated", info.Isolated || !p.Isolated, true)), nil
}

// Apply implements engine.Resource.
func (p Port) Apply(context.Context) error {
	h, l, err := MustFind(netns.Host(), p.Link)
	if err != nil {
		return err
	}
	if err := h.LinkSetHairpin(l, p.Hairpin); err != nil {
		return fmt.Errorf("hairpin: %w", err)
	}
	if !p.Isolated {
		return nil
	}
	return setIsolated(h, l)
}

// Remove has nothing to do: the settings go with the port.
func (p Port) Remove(context.Context) error { return nil }

// An IsolatedPort is a bridge port from which no frame goes to another isolated
// port, or comes from one.
type IsolatedPort struct{ Link string }

// Key implements engine.Resource.
func (p IsolatedPort) Key() string { return "isolation " + p.Link }

func (p IsolatedPort) String() string { return "bridge link set dev " + p.Link + " isolated on" }

// Observe implements engine.Resource.
func (p IsolatedPort) Observe(context.Context) (engine.Diff, error) {
	h, l, err := Find(netns.Host(), p.Link)
	if err != nil || l == nil {
		return engine.Absent, err
	}
	info, err := h.LinkGetProtinfo(l)
	if err != nil {
		return engine.Same, fmt.Errorf("port %s: %w", p.Link, err)
	}
	return engine.Differ("isolated", info.Isolated, true), nil
}

// Apply implements engine.Resource.
func (p IsolatedPort) Apply(context.Context) error {
	h, l, err := MustFind(netns.Host(), p.Link)
	if err != nil {
		return err
	}
	return setIsolated(h, l)
}

func setIsolated(h *netlink.Handle, l netlink.Link) error {
	if err := h.LinkSetIsolated(l, true); err != nil {
		return fmt.Errorf("isolated: %w", err)
	}
	return nil
}

// Remove has nothing to do: the setting goes with the port.
func (p IsolatedPort) Remove(context.Context) error { return nil }
