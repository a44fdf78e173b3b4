package link

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A Parent requires a link that others can be made on: there, Ethernet, and
// not in a bridge or bond itself. Of a VLAN that is not there yet its own parent
// is required, up, and so on, and that the kernel has VLANs.
type Parent struct {
	NS   *netns.NS
	Name string // empty: the host has no default route to find it by
	On   string // if Name is not there: what it is made on
	MTU  int    // of what is made on it; 0 for the parent's own
}

// Key implements engine.Resource.
func (p Parent) Key() string { return fmt.Sprintf("parent %s%s", p.NS, p.Name) }

func (p Parent) String() string {
	s := fmt.Sprintf("ip %slink show %s", p.NS, named(p.Name))
	if p.On != "" {
		s += fmt.Sprintf(" || ip %slink show %s up", p.NS, named(p.On))
	}
	return s
}

// named stands in a command for the link that is not known before the host is
// looked at.
func named(name string) string {
	if name == "" || strings.HasPrefix(name, ".") {
		return "$DEFAULT" + name
	}
	return name
}

// Observe implements engine.Resource.
func (p Parent) Observe(ctx context.Context) (engine.Diff, error) {
	if named(p.Name) != p.Name {
		return "there is no default route to find the parent by; set master", nil
	}
	h, l, err := Find(p.NS, p.Name)
	if err != nil {
		return engine.Same, err
	}
	made := l == nil
	for on := p.On; l == nil && on != ""; on, _ = base(on) {
		if h, l, err = Find(p.NS, on); err != nil {
			return engine.Same, err
		}
	}
	if l == nil {
		return "no such link; name one that is there in master", nil
	}
	if diff := p.fault(h, l); diff != engine.Same || !made {
		return diff, nil
	}
	if !isUp(l) && !p.made(l.Attrs().Name) { // ours will be set up
		return engine.Diff(fmt.Sprintf("%s is down, and the kernel sets up no VLAN of a link that is down; set it up: ip link set %s up",
			l.Attrs().Name, l.Attrs().Name)), nil
	}
	return Kind(kindVLAN).Observe(ctx)
}

// Down says what is lost while the parent is down, and is empty while it is not:
// links can be made on it, and work when it comes up.
func (p Parent) Down() (string, error) {
	_, l, err := Find(p.NS, p.Name)
	if err != nil || l == nil || isUp(l) || p.made(p.Name) {
		return "", err
	}
	return fmt.Sprintf("the parent %s is down, so containers on it reach nobody until it is set up: ip %slink set %s up", p.Name, p.NS, p.Name), nil
}

// fault says why nothing can be made on a link.
func (p Parent) fault(h *netlink.Handle, l netlink.Link) engine.Diff {
	a := l.Attrs()
	if master, err := h.LinkByIndex(a.MasterIndex); a.MasterIndex != 0 && err == nil && master.Type() != "vrf" {
		return engine.Diff(fmt.Sprintf("%s is a port of %s %s, so nothing else can share it; name %s as the master",
			a.Name, master.Type(), master.Attrs().Name, master.Attrs().Name))
	}
	switch {
	case a.EncapType != "ether":
		return engine.Diff(fmt.Sprintf("%s is of type %s, want an Ethernet link", a.Name, a.EncapType))
	case p.MTU > a.MTU:
		return engine.Diff(fmt.Sprintf("%s has mtu %d, want at least the configured %d", a.Name, a.MTU, p.MTU))
	}
	return engine.Same
}

// made reports whether a link of the host was made for its users, or just is: that
// is written down before there is a link, which has no alias at first.
func (p Parent) made(link string) bool {
	ours, err := there(filepath.Join(linksDir, link, madeName))
	return p.NS.Path() == "" && ours && err == nil
}

// Apply has nothing to do: the parent is required.
func (p Parent) Apply(context.Context) error { return nil }

// Remove has nothing to do.
func (p Parent) Remove(context.Context) error { return nil }

const maxVLAN = 4094

// base splits the name of a VLAN of another link, "eth0.50", into that link's
// name and the VLAN's number; of another name it returns "" and 0.
func base(name string) (parent string, id int) {
	at := strings.LastIndex(name, ".")
	if at < 0 {
		return "", 0
	}
	id, err := strconv.Atoi(name[at+1:])
	if err != nil || id < 1 || id > maxVLAN || strconv.Itoa(id) != name[at+1:] {
		return "", 0
	}
	return name[:at], id
}

// VLANs returns the links that a parent of this name stands on, itself last:
// eth0, eth0.10, eth0.10.20.
func VLANs(name string) (all []Shared) {
	for more := true; more; {
		parent, id := base(name)
		s := Shared{Name: name}
		if more = id != 0; more {
			s.Kind, s.Parent, s.ID = kindVLAN, parent, id
		}
		all = append(all, s)
		name = parent
	}
	slices.Reverse(all)
	return all
}
