// Package link is network links as resources: bridges, veth pairs, bridge
// ports, sub-interfaces and what they share. Links are
// named by (namespace, name) and looked up when used, so a
// plan that holds one can be made without privilege.
package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// Find returns the link of that name, nil where there is none, and the handle by
// which it was looked for.
func Find(ns *netns.NS, name string) (*netlink.Handle, netlink.Link, error) {
	h, err := ns.Netlink()
	if err != nil {
		return nil, nil, err
	}
	l, err := h.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return h, nil, nil
	}
	return h, l, err
}

// MustFind is Find for a link that must be there.
func MustFind(ns *netns.NS, name string) (*netlink.Handle, netlink.Link, error) {
	h, l, err := Find(ns, name)
	if err == nil && l == nil {
		err = fmt.Errorf("link %s: no such link", name)
	}
	return h, l, err
}

// HardwareAddr reads the MAC address and MTU of a link.
func HardwareAddr(ns *netns.NS, name string) (net.HardwareAddr, int, error) {
	_, l, err := MustFind(ns, name)
	if err != nil {
		return nil, 0, err
	}
	return l.Attrs().HardwareAddr, l.Attrs().MTU, nil
}

// Index returns the index of a link in ns.
func Index(ns *netns.NS, name string) (int, error) {
	_, l, err := MustFind(ns, name)
	if err != nil {
		return 0, err
	}
	return l.Attrs().Index, nil
}

func isUp(l netlink.Link) bool { return l.Attrs().Flags&net.FlagUp != 0 }

// OnOff is a switch in the words of ip(8).
func OnOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// State returns "up" or "down".
func State(l netlink.Link) string {
	if isUp(l) {
		return "up"
	}
	return "down"
}

// Up sets a link up.
type Up struct {
	NS   *netns.NS
	Name string
}

// Key implements engine.Resource.
func (u Up) Key() string { return fmt.Sprintf("link %s%s up", u.NS, u.Name) }

func (u Up) String() string { return fmt.Sprintf("ip %slink set %s up", u.NS, u.Name) }

// Observe implements engine.Resource.
func (u Up) Observe(context.Context) (engine.Diff, error) {
	_, l, err := Find(u.NS, u.Name)
	if err != nil || l == nil {
		return engine.Absent, err
	}
	return engine.Differ("state", State(l), "up"), nil
}

// Apply implements engine.Resource.
func (u Up) Apply(context.Context) error {
	h, l, err := MustFind(u.NS, u.Name)
	if err != nil {
		return err
	}
	if err := h.LinkSetUp(l); errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("its hardware address %s is in use by its parent, or by another link of that; choose another: %w", l.Attrs().HardwareAddr, err)
	} else if err != nil {
		return err
	}
	return nil
}

// Remove sets the link down.
func (u Up) Remove(context.Context) error {
	h, l, err := Find(u.NS, u.Name)
	if err != nil || l == nil {
		return err
	}
	return h.LinkSetDown(l)
}

// Scope finds the links of the host that carry an owner mark as their alias and
// whose name is the mark's under the prefix.
type Scope struct{ Prefix string }

// Of costs one lookup by name. The alias is set just after the link is made, so
// a link without one is taken for the mark's, too: nobody else has its name.
func (s Scope) Of(_ context.Context, m owner.Mark) ([]engine.Found, error) {
	_, l, err := Find(netns.Host(), m.Link(s.Prefix))
	if err != nil || l == nil {
		return nil, err
	}
	if alias := l.Attrs().Alias; alias != "" && alias != string(m) {
		return nil, nil
	}
	return []engine.Found{{Mark: m, Resource: Veth{Host: m.Link(s.Prefix), Mark: m}}}, nil
}

// All lists the host's links.
func (s Scope) All(context.Context) ([]engine.Found, error) {
	h, err := netns.Host().Netlink()
	if err != nil {
		return nil, err
	}
	links, err := netns.Dump(h.LinkList)
	if err != nil {
		return nil, err
	}
	var out []engine.Found
	for _, l := range links {
		m := owner.Mark(l.Attrs().Alias)
		if m.Valid() && m.Link(s.Prefix) == l.Attrs().Name {
			out = append(out, engine.Found{Mark: m, Resource: Veth{Host: l.Attrs().Name, Mark: m}})
		}
	}
	return out, nil
}

// randomMAC returns a locally administered unicast address. It need not be hard
// to guess, only unlike those of other hosts.
func randomMAC() net.HardwareAddr {
	mac := binary.BigEndian.AppendUint64(nil, rand.Uint64())[:6]
	mac[0] = mac[0]&^1 | 2
	return mac
}

// Gone reports an error as that of a link, or of something on it, that is not there
// any more.
func Gone(err error) bool { return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) }

func exists(err error) bool { return errors.Is(err, unix.EEXIST) }
