package link

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/sysctl"
)

// A Shared is a link of the host that attachments use together. One that is
// missing is made for the first of them, and removed with the last; one that
// was there before is left.
type Shared struct {
	Name   string
	Kind   string // "": never made; else "vlan", "dummy", or a Driver's
	Parent string
	ID     int // of a VLAN
	// Strict wants one that was there before to be of this kind; otherwise it is
	// taken as it is.
	Strict bool
	Driver Driver // of a link by which the host is on the network
}

const (
	kindVLAN  = "vlan"
	kindDummy = "dummy"
)

// KindDummy is that of the parent of an internal network without one.
const KindDummy Kind = kindDummy

// Dummy is the parent of an internal network without one: a link to nowhere.
func Dummy(network string) Shared {
	return Shared{Name: owner.Mark(sharedMark + network + "/dummy").Link("dyd"), Kind: kindDummy}
}

// HostEnd is the link by which the host is on a network of that parent.
func HostEnd(network, parent string, d Driver) Shared {
	return Shared{Name: owner.Mark(sharedMark + network + "/" + parent).Link("dyh"), Kind: d.Kind, Parent: parent, Driver: d}
}

func (s Shared) String() string {
	switch s.Kind {
	case "":
		return ""
	case kindVLAN:
		return fmt.Sprintf("ip link add link %s name %s up type vlan id %d", named(s.Parent), named(s.Name), s.ID)
	case kindDummy:
		return fmt.Sprintf("ip link add %s up type dummy", s.Name)
	}
	return fmt.Sprintf("ip link add link %s name %s up type %s", named(s.Parent), s.Name, s.Driver)
}

// sharedMark begins the mark of what belongs to no single attachment.
const sharedMark = "*/"

func (s Shared) mark() owner.Mark { return owner.Mark(sharedMark + s.Name + "/shared") }

// ensure makes the link if it is missing. That it will be made is written down
// first, so that whoever comes after a kill knows whose it is.
func (s Shared) ensure(ctx context.Context, made string) error {
	if s.Kind == "" {
		return nil // what stands on it fails without it, or may do without
	}
	h, l, err := Find(netns.Host(), s.Name)
	if err != nil {
		return err
	}
	if l == nil {
		if err := s.create(h, made); err != nil {
			return err
		}
	}
	if ours, err := there(made); err != nil {
		return err
	} else if ours {
		return s.setUp(ctx, h)
	}
	if s.Strict {
		return s.fits(h, l)
	}
	return nil
}

func (s Shared) create(h *netlink.Handle, made string) error {
	if err := os.Symlink(string(s.mark()), made); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = s.Name
	if s.Kind != kindVLAN && s.Kind != Ipvlan { // these have their parent's
		attrs.HardwareAddr = randomMAC() // set, so that no udev policy changes it
	}
	if s.Parent != "" {
		_, parent, err := MustFind(netns.Host(), s.Parent)
		if err != nil {
			return err
		}
		attrs.ParentIndex = parent.Attrs().Index
	}
	var l netlink.Link
	switch s.Kind {
	case kindVLAN:
		l = &netlink.Vlan{LinkAttrs: attrs, VlanId: s.ID, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
	case kindDummy:
		l = &netlink.Dummy{LinkAttrs: attrs}
	default:
		l = s.Driver.link(attrs)
	}
	if err := h.LinkAdd(l); err != nil {
		return fmt.Errorf("%s: %w", s, unsupported(s.Kind, err))
	}
	return nil
}

func (s Shared) setUp(ctx context.Context, h *netlink.Handle) error {
	l, err := h.LinkByName(s.Name)
	if err != nil {
		return err
	}
	if err := s.fits(h, l); err != nil {
		return err
	}
	if l.Attrs().Alias != string(s.mark()) {
		if err := h.LinkSetAlias(l, string(s.mark())); err != nil {
			return fmt.Errorf("alias: %w", err)
		}
	}
	if err := s.settings().Apply(ctx); err != nil || isUp(l) {
		return err
	}
	if err := h.LinkSetUp(l); errors.Is(err, unix.ENETDOWN) {
		return fmt.Errorf("%s is down, and so is %s on it; set it up: ip link set %s up: %w", s.Parent, s.Name, s.Parent, err)
	} else if err != nil {
		return err
	}
	return nil
}

// settings keep the host from being on a network by a link that it was not asked
// to be on it by: no address, no route of a router's choice, no answer for other
// addresses of the host.
func (s Shared) settings() sysctl.Setting {
	v4, v6 := "net/ipv4/conf/"+s.Name+"/", "net/ipv6/conf/"+s.Name+"/"
	if s.Kind == kindVLAN || s.Kind == kindDummy {
		return sysctl.Set(netns.Host(), v6+"disable_ipv6", "1")
	}
	return sysctl.Set(netns.Host(), v4+"arp_ignore", "8", v6+"accept_ra", "0")
}

// fits fails if the link is another than its name says.
func (s Shared) fits(h *netlink.Handle, l netlink.Link) error {
	if diff := s.compare(h, l); diff != engine.Same {
		return fmt.Errorf("link %s is there already, but has %w", s.Name, diff)
	}
	return nil
}

func (s Shared) compare(h *netlink.Handle, l netlink.Link) engine.Diff {
	diff := engine.Differ("type", l.Type(), s.Kind)
	if diff == engine.Same && s.Parent != "" {
		parent := ""
		if p, err := h.LinkByIndex(l.Attrs().ParentIndex); err == nil {
			parent = p.Attrs().Name
		}
		diff = engine.Differ("parent", parent, s.Parent)
	}
	if v, ok := l.(*netlink.Vlan); ok && diff == engine.Same {
		diff = engine.Differ("vlan id", v.VlanId, s.ID)
	}
	return diff
}

// observe compares a link that was made for who shares it.
func (s Shared) observe(ctx context.Context) (engine.Diff, error) {
	h, l, err := Find(netns.Host(), s.Name)
	if err != nil {
		return engine.Same, err
	}
	if l == nil {
		return engine.Diff("link " + s.Name + " is absent"), nil
	}
	diff := engine.First(s.compare(h, l),
		engine.Differ("alias", l.Attrs().Alias, string(s.mark())),
		engine.Differ("state", State(l), "up"))
	if diff == engine.Same {
		return s.settings().Observe(ctx)
	}
	return engine.Diff("link "+s.Name+": ") + diff, nil
}

// remove deletes the link, unless it is somebody else's by now.
func (s Shared) remove() error {
	h, l, err := Find(netns.Host(), s.Name)
	if err != nil || l == nil || l.Attrs().Alias != "" && l.Attrs().Alias != string(s.mark()) {
		return err
	}
	if err := h.LinkDel(l); err != nil && !Gone(err) {
		return fmt.Errorf("delete link %s: %w", s.Name, err)
	}
	return nil
}
