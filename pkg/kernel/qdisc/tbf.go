// Package qdisc is traffic shaping as resources: the kernel's queueing disciplines
// (tc(8)) that limit the rate of a link, and the ifb links that they need.
package qdisc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A Limit is a bound on traffic: Rate in the long run, Burst at once.
type Limit struct {
	Rate  uint64 // bits per second, at least 8
	Burst uint64 // bits; one packet of the link's MTU passes in any case
}

func (l Limit) String() string {
	return fmt.Sprintf("tbf rate %dbit burst %db latency 25ms", l.Rate, l.Burst/8)
}

var (
	_ engine.Joiner = TBF{}
	_ engine.Joiner = IFB{}
	_ engine.Joiner = Redirect{}
	_ engine.Scope  = Scope{}
)

// A TBF limits what leaves by a link of the host (tc-tbf(8)).
type TBF struct {
	Link string
	Limit
}

// Key implements engine.Resource.
func (t TBF) Key() string { return "qdisc " + t.Link }

func (t TBF) String() string {
	return fmt.Sprintf("tc qdisc add dev %s root handle %x: %s", t.Link, rootHandle>>16, t.Limit)
}

// rootHandle is by what our root qdiscs are known, so that nobody else's is
// ever removed. A limit that is added stands within the one before it, under the next
// handle: both hold.
const (
	rootHandle = 0xd0c << 16
	nextHandle = 1 << 16
	maxLimits  = 16
)

// qdisc is the kernel's form: bytes, and the time that a burst takes at the rate
// in ticks. What does not fit is cut to what does: the burst of kubelet, 2^32-1
// bits, takes hours at a low rate, and minutes are as good.
func (l Limit) qdisc(index, mtu int) *netlink.Tbf {
	const (
		latency  = 0.025 // seconds for which a packet may wait
		ethernet = 14    // bytes of header
	)
	rate, ticks := float64(l.Rate/8), netlink.TIME_UNITS_PER_SEC*netlink.TickInUsec()
	burst := math.Min(float64(l.Burst/8), rate*math.Floor(math.MaxUint32/ticks))
	burst = math.Max(burst, float64(mtu+ethernet))
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: rootHandle, Parent: netlink.HANDLE_ROOT},
		Rate:       l.Rate / 8,
		Limit:      clamp(rate*latency + burst),
		Buffer:     clamp(math.Ceil(burst/rate*ticks) + 1),
	}
}

func clamp(f float64) uint32 { return uint32(math.Min(f, math.MaxUint32)) }

// Observe implements engine.Resource.
func (t TBF) Observe(context.Context) (engine.Diff, error) {
	h, l, err := link.Find(netns.Host(), t.Link)
	if err != nil || l == nil {
		return engine.Absent, err
	}
	return t.observe(h, l)
}

// limits returns our qdiscs of a link, from the root inwards.
func limits(h *netlink.Handle, on netlink.Link) (out []*netlink.Tbf, err error) {
	all, err := netns.Dump(func() ([]netlink.Qdisc, error) { return h.QdiscList(on) })
	if err != nil {
		return nil, err
	}
	for _, q := range all {
		if found, ok := q.(*netlink.Tbf); ok && found.Handle >= rootHandle && found.Handle < rootHandle+maxLimits*nextHandle {
			out = append(out, found)
		}
	}
	slices.SortFunc(out, func(a, b *netlink.Tbf) int { return cmp.Compare(a.Handle, b.Handle) })
	if len(out) > 0 && out[0].Handle != rootHandle {
		return nil, nil
	}
	return out, nil
}

// observe looks for the limit among those that the link has, and otherwise says how
// the last of them differs.
func (l Limit) observe(h *netlink.Handle, on netlink.Link) (engine.Diff, error) {
	all, err := limits(h, on)
	diff := engine.Absent
	want := l.qdisc(on.Attrs().Index, on.Attrs().MTU)
	for _, found := range all {
		diff = engine.First(
			engine.Differ("rate", found.Rate, want.Rate),
			engine.Differ("limit", found.Limit, want.Limit),
			engine.Differ("burst", found.Buffer, want.Buffer))
		if diff == engine.Same {
			break
		}
	}
	return diff, err
}

// join adds the limit to those that a link has.
func (l Limit) join(h *netlink.Handle, on netlink.Link) error {
	if diff, err := l.observe(h, on); err != nil || diff == engine.Same {
		return err
	}
	all, err := limits(h, on)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("qdisc %w", engine.ErrExists) // somebody else's
	}
	last, inner := all[len(all)-1], l.qdisc(on.Attrs().Index, on.Attrs().MTU)
	inner.Parent, inner.Handle = last.Handle|1, last.Handle+nextHandle
	return addQdisc(h, inner)
}

// Apply fails if the link has a root qdisc that is not the kernel's own.
func (t TBF) Apply(context.Context) error {
	h, l, err := link.MustFind(netns.Host(), t.Link)
	if err != nil {
		return err
	}
	return addQdisc(h, t.qdisc(l.Attrs().Index, l.Attrs().MTU))
}

// Join implements engine.Joiner.
func (t TBF) Join(context.Context) error {
	h, l, err := link.MustFind(netns.Host(), t.Link)
	if err != nil {
		return err
	}
	return t.join(h, l)
}

func addQdisc(h *netlink.Handle, q netlink.Qdisc) error {
	if err := h.QdiscAdd(q); errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("qdisc %w", engine.ErrExists)
	} else if err != nil {
		return fmt.Errorf("qdisc: %w", err)
	}
	return nil
}

// Remove implements engine.Resource.
func (t TBF) Remove(context.Context) error {
	return remove(t.Link, func(l netlink.Link) netlink.Qdisc { return t.qdisc(l.Attrs().Index, 0) })
}

// remove deletes the qdisc of that handle from a link of the host, and no other:
// the kernel answers EINVAL where another one is in its place.
func remove(from string, qdisc func(netlink.Link) netlink.Qdisc) error {
	h, l, err := link.Find(netns.Host(), from)
	if err != nil || l == nil {
		return err
	}
	if err := h.QdiscDel(qdisc(l)); err != nil && !link.Gone(err) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("qdisc: %w", err)
	}
	return nil
}

// An IFB is a link that limits what others send through it (see Redirect).
type IFB struct {
	Name string
	MTU  string // the link whose MTU it has
	Limit
	Mark owner.Mark
}

// Key implements engine.Resource.
func (i IFB) Key() string { return "link " + i.Name }

func (i IFB) String() string {
	return fmt.Sprintf("ip link add %s mtu of %s up type ifb ; ip link set %s alias %s ; %s", i.Name, i.MTU, i.Name, i.Mark, TBF{i.Name, i.Limit})
}

// Observe implements engine.Resource.
func (i IFB) Observe(context.Context) (engine.Diff, error) {
	h, l, err := link.Find(netns.Host(), i.Name)
	if err != nil || l == nil {
		return engine.Absent, err
	}
	if diff := engine.First(
		engine.Differ("type", l.Type(), "ifb"),
		engine.Differ("alias", l.Attrs().Alias, string(i.Mark)),
		engine.Differ("state", link.State(l), "up")); diff != engine.Same {
		return diff, nil
	}
	diff, err := i.observe(h, l)
	if diff == engine.Absent {
		diff = "no qdisc " + engine.Diff(i.Limit.String())
	}
	return diff, err
}

// Apply implements engine.Resource.
func (i IFB) Apply(context.Context) error {
	h, l, err := link.MustFind(netns.Host(), i.MTU)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = i.Name, l.Attrs().MTU, i.Mark.MAC()
	attrs.Flags = unix.IFF_UP
	ifb := &netlink.Ifb{LinkAttrs: attrs}
	if err := h.LinkAdd(ifb); errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s %w", i.Name, engine.ErrExists)
	} else if err != nil {
		return err
	}
	if err := h.LinkSetAlias(ifb, string(i.Mark)); err != nil {
		return fmt.Errorf("alias: %w", err)
	}
	return addQdisc(h, i.qdisc(ifb.Index, attrs.MTU))
}

// Join implements engine.Joiner.
func (i IFB) Join(context.Context) error {
	h, l, err := link.MustFind(netns.Host(), i.Name)
	if err != nil {
		return err
	}
	if l.Type() != "ifb" || l.Attrs().Alias != string(i.Mark) {
		return fmt.Errorf("%s %w", i.Name, engine.ErrExists)
	}
	return i.join(h, l)
}

// Remove implements engine.Resource.
func (i IFB) Remove(ctx context.Context) error { return link.Veth{Host: i.Name}.Remove(ctx) }
