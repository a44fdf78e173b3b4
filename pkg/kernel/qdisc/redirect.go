package qdisc

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A Redirect sends what comes in by a link of the host through an IFB first, as
// only what leaves a link can wait in a queue.
type Redirect struct{ Link, Through string }

// Key implements engine.Resource.
func (r Redirect) Key() string { return "ingress " + r.Link }

func (r Redirect) String() string {
	return fmt.Sprintf("tc qdisc add dev %s ingress ; tc filter add dev %s ingress protocol all u32 match u32 0 0 action mirred egress redirect dev %s", r.Link, r.Link, r.Through)
}

func (r Redirect) ingress(l netlink.Link) *netlink.Ingress {
	return &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS,
	}}
}

// Observe implements engine.Resource.
func (r Redirect) Observe(context.Context) (engine.Diff, error) {
	h, l, err := link.Find(netns.Host(), r.Link)
	if err != nil || l == nil {
		return engine.Absent, err
	}
	through, err := link.Index(netns.Host(), r.Through)
	if err != nil {
		return engine.Same, err
	}
	filters, err := netns.Dump(func() ([]netlink.Filter, error) { return h.FilterList(l, r.ingress(l).Handle) })
	if err != nil {
		return engine.Same, err
	}
	for _, f := range filters {
		if u, ok := f.(*netlink.U32); ok && len(u.Actions) > 0 {
			if m, ok := u.Actions[0].(*netlink.MirredAction); ok {
				return engine.Differ("leads to link of index", m.Ifindex, through), nil
			}
		}
	}
	return engine.Absent, nil
}

// Apply fails if the link has an ingress or clsact qdisc already.
func (r Redirect) Apply(context.Context) error {
	h, l, err := link.MustFind(netns.Host(), r.Link)
	if err != nil {
		return err
	}
	through, err := link.Index(netns.Host(), r.Through)
	if err != nil {
		return err
	}
	ingress := r.ingress(l)
	if err := addQdisc(h, ingress); err != nil {
		return err
	}
	if err := h.FilterAdd(&netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: l.Attrs().Index, Parent: ingress.Handle, Priority: 1, Protocol: unix.ETH_P_ALL},
		RedirIndex:  through,
		Actions:     []netlink.Action{netlink.NewMirredAction(through)},
	}); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	return nil
}

// Join implements engine.Joiner: there is one way for all that a container sends.
func (r Redirect) Join(ctx context.Context) error {
	diff, err := r.Observe(ctx)
	if err == nil && diff != engine.Same {
		err = fmt.Errorf("qdisc %w", engine.ErrExists)
	}
	return err
}

// Remove implements engine.Resource.
func (r Redirect) Remove(context.Context) error {
	return remove(r.Link, func(l netlink.Link) netlink.Qdisc { return r.ingress(l) })
}

// Scope finds the TBF and Redirect on links that a link.Scope of the prefix finds.
// Whether they are there is left to their removal.
type Scope struct{ Prefix string }

// Of implements engine.Scope.
func (s Scope) Of(ctx context.Context, m owner.Mark) ([]engine.Found, error) {
	links, err := link.Scope(s).Of(ctx, m)
	return shapers(links), err
}

// All implements engine.Scope.
func (s Scope) All(ctx context.Context) ([]engine.Found, error) {
	links, err := link.Scope(s).All(ctx)
	return shapers(links), err
}

func shapers(links []engine.Found) (out []engine.Found) {
	for _, f := range links {
		name := f.Resource.(link.Veth).Host
		out = append(out,
			engine.Found{Mark: f.Mark, Resource: TBF{Link: name}},
			engine.Found{Mark: f.Mark, Resource: Redirect{Link: name}})
	}
	return out
}
