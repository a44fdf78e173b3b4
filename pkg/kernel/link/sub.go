package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A Sub is a sub-interface in a container: one that has its line from another
// link, its parent. It is made with a name that the mark gives it, as kernels
// before 6.14 want the name to be free on the host as well, and down.
//
// A Use must have recorded where the container's namespace is.
type Sub struct {
	Driver   Driver
	NS       *netns.NS // the container's
	Name     string
	ParentNS *netns.NS
	Parent   string
	MAC      net.HardwareAddr // nil: the kernel's choice; of ipvlan always its parent's
	MTU      int              // 0: that of the parent
	Mark     owner.Mark
}

const temporary = "new"

// Key implements engine.Resource.
func (s Sub) Key() string { return "link " + string(s.Mark) }

func (s Sub) String() string {
	if s.NS == nil { // one that the scope found
		return fmt.Sprintf("ip link del %s # in the container, alias %s", s.Name, s.Mark)
	}
	born := s.Mark.Link(temporary)
	c := fmt.Sprintf("ip %slink add link %s name %s netns %s", s.ParentNS, named(s.Parent), born, s.NS.Path())
	if s.MTU > 0 {
		c += fmt.Sprintf(" mtu %d", s.MTU)
	}
	if s.MAC != nil {
		c += " address " + s.MAC.String()
	}
	return c + fmt.Sprintf(" type %s ; ip %slink set %s alias %s name %s", s.Driver, s.NS, born, s.Mark, s.Name)
}

// Observe implements engine.Resource. It leaves the MTU alone: the tuning plugin
// may have changed it.
func (s Sub) Observe(context.Context) (engine.Diff, error) {
	_, l, err := Find(s.NS, s.Name)
	if err != nil || l == nil {
		return engine.Absent, err
	}
	diff := engine.First(s.Driver.compare(l), engine.Differ("alias", l.Attrs().Alias, string(s.Mark)))
	if diff == engine.Same && s.MAC != nil && !bytes.Equal(l.Attrs().HardwareAddr, s.MAC) {
		diff = engine.Differ("address", l.Attrs().HardwareAddr.String(), s.MAC.String())
	}
	if diff != engine.Same {
		return diff, nil
	}
	_, parent, err := Find(s.ParentNS, s.Parent)
	if err != nil || parent == nil {
		return engine.Diff("its parent " + s.Parent + " is absent"), err
	}
	return engine.Differ("parent's index", l.Attrs().ParentIndex, parent.Attrs().Index), nil
}

// Apply implements engine.Resource.
func (s Sub) Apply(ctx context.Context) error {
	h, parent, err := MustFind(s.ParentNS, s.Parent)
	if err != nil {
		return err
	}
	inside, taken, err := Find(s.NS, s.Name)
	if err != nil {
		return err
	}
	if taken != nil {
		return s.taken()
	}
	fd, err := s.NS.FD()
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.HardwareAddr = s.Mark.Link(temporary), parent.Attrs().Index, s.MAC
	attrs.Namespace = netlink.NsFd(fd)
	if s.MTU > 0 {
		attrs.MTU = s.MTU
	}
	if err = h.LinkAdd(s.Driver.link(attrs)); err != nil {
		return s.explain(h, parent, err)
	}
	err = s.finish(inside)
	if errors.Is(err, engine.ErrExists) { // so nobody else removes what was made
		return errors.Join(err, s.Remove(ctx))
	}
	return err
}

func (s Sub) taken() error {
	return fmt.Errorf("%s in the container %w: an earlier plugin of the list made it, or another network; "+
		"put this plugin first in a list of its own, or choose another CNI_IFNAME", s.Name, engine.ErrExists)
}

// finish marks the link and gives it its name.
func (s Sub) finish(h *netlink.Handle) error {
	l, err := h.LinkByName(s.Mark.Link(temporary))
	if err != nil {
		return err
	}
	if err := h.LinkSetAlias(l, string(s.Mark)); err != nil {
		return fmt.Errorf("alias: %w", err)
	}
	if len(s.Driver.Sources) > 0 {
		if err := h.MacvlanMACAddrSet(l, s.Driver.Sources); err != nil {
			return fmt.Errorf("sources: %w", err)
		}
	}
	if err := h.LinkSetName(l, s.Name); exists(err) {
		return s.taken()
	} else if err != nil {
		return fmt.Errorf("name: %w", err)
	}
	return nil
}

// explain says why the kernel refused a link.
func (s Sub) explain(h *netlink.Handle, parent netlink.Link, err error) error {
	switch {
	case exists(err):
		return fmt.Errorf("%s %w", s.Mark.Link(temporary), engine.ErrExists)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EINVAL) && s.Driver.Mode == Passthru:
		return s.busy(h, parent)
	}
	return unsupported(s.Driver.Kind, err)
}

// busy names who keeps a link from being a parent: a link of this host that
// stands on it, or, what the host does not see, links in containers.
func (s Sub) busy(h *netlink.Handle, parent netlink.Link) error {
	if err := conflict(s.Mark, s.Parent, Passthru); err != nil { // nothing goes with that
		return err
	}
	holder := owner.Mark("links in containers that another program made")
	links, err := netns.Dump(h.LinkList)
	for _, l := range links {
		if err == nil && l.Attrs().ParentIndex == parent.Attrs().Index && (l.Type() == Macvlan || l.Type() == Ipvlan || l.Type() == "macvtap") {
			holder = owner.Mark("the " + l.Type() + " link " + l.Attrs().Name)
		}
	}
	return held(s.Parent, holder, "", s.Driver.sharing())
}

// Remove implements engine.Resource. It needs no more than the mark.
func (s Sub) Remove(context.Context) error {
	r, _, err := read(s.Mark)
	if err != nil {
		return err
	}
	l, err := remote(r.netns(), s.Mark)
	if err != nil || l == nil {
		return err
	}
	req := request(unix.RTM_DELLINK, unix.NLM_F_ACK, r.netns())
	req.Data[0].(*nl.IfInfomsg).Index = int32(l.Attrs().Index)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil && !Gone(err) {
		return ignoreErrno(err, unix.EINVAL)
	}
	return nil
}

// SubScope finds sub-interfaces, and the records of them.
type SubScope struct{}

// Of costs reading one record.
func (SubScope) Of(_ context.Context, m owner.Mark) ([]engine.Found, error) {
	r, found, err := read(m)
	if err != nil || !found {
		return nil, err
	}
	out := []engine.Found{{Mark: m, Resource: Use{Mark: m}}}
	l, err := remote(r.netns(), m)
	if l != nil {
		out = append(out, engine.Found{Mark: m, Resource: Sub{Mark: m, Name: l.Attrs().Name}})
	}
	return out, err
}

// All lists the records.
func (s SubScope) All(ctx context.Context) ([]engine.Found, error) {
	entries, err := os.ReadDir(usersDir)
	if err = ignoreMissing(err); err != nil {
		return nil, err
	}
	var out []engine.Found
	for _, e := range entries {
		found, err := s.Of(ctx, markOf(e.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}
