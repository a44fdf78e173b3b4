package route

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A Route is a route by a link.
type Route struct {
	NS   *netns.NS
	Link string
	Dst  netip.Prefix
	GW   netip.Addr // the zero Addr: on the link itself

	// OnLink says that the gateway is on the link whatever the link's addresses.
	OnLink bool
	Src    netip.Addr // of the host's own packets; the zero Addr leaves it to the kernel
	// Replace takes the place of a route of the host to the same destination.
	Replace bool

	MTU, AdvMSS int
	// Metric 0 lets this route stand behind one to the same destination that
	// was there first: it takes the next metric that is free.
	Metric int
	Table  int  // 0: main
	Scope  *int // nil: global, or link without a gateway
}

// Key implements engine.Resource.
func (r Route) Key() string { return "route " + r.NS.String() + r.Dst.String() + " " + r.Link }

func (r Route) String() string {
	verb := "add"
	if r.Replace {
		verb = "replace"
	}
	s := "ip " + r.NS.String() + "route " + verb + " " + r.Dst.String()
	if r.GW.IsValid() {
		s += " via " + r.GW.String()
	}
	s += " dev " + r.Link
	if r.OnLink {
		s += " onlink"
	}
	if r.Src.IsValid() {
		s += " src " + r.Src.String()
	}
	for _, o := range []struct {
		name  string
		value int
	}{{"metric", r.Metric}, {"table", r.Table}, {"mtu", r.MTU}, {"advmss", r.AdvMSS}} {
		if o.value != 0 {
			s += fmt.Sprintf(" %s %d", o.name, o.value)
		}
	}
	if r.Scope != nil {
		s += fmt.Sprintf(" scope %d", *r.Scope)
	}
	return s
}

// Observe implements engine.Resource. A later plugin (sbr) may have moved the
// route to another table, so unless one was asked for all are looked at.
func (r Route) Observe(context.Context) (engine.Diff, error) {
	h, want, err := r.netlink()
	if err != nil {
		return engine.Same, err
	}
	if h == nil {
		return engine.Absent, nil
	}
	filter, mask := &netlink.Route{LinkIndex: want.LinkIndex, Table: r.Table}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE
	list, err := netns.Dump(func() ([]netlink.Route, error) { return h.RouteListFiltered(family(r.Dst.Addr()), filter, mask) })
	if err != nil {
		return engine.Same, err
	}
	diff := engine.Absent
	for _, found := range list {
		if dst, _ := prefixOf(found); dst != r.Dst.Masked() {
			continue
		}
		if diff = r.compare(found); diff == engine.Same {
			break
		}
	}
	return diff, nil
}

func (r Route) compare(found netlink.Route) engine.Diff {
	gw, _ := netip.AddrFromSlice(found.Gw)
	diffs := []engine.Diff{engine.Differ("gateway", gw.Unmap(), r.GW)}
	if src, _ := netip.AddrFromSlice(found.Src); r.Src.IsValid() {
		diffs = append(diffs, engine.Differ("src", src.Unmap(), r.Src))
	}
	for _, a := range []struct {
		name        string
		found, want int
	}{{"metric", found.Priority, r.Metric}, {"mtu", found.MTU, r.MTU}, {"advmss", found.AdvMSS, r.AdvMSS}} {
		if a.want != 0 {
			diffs = append(diffs, engine.Differ(a.name, a.found, a.want))
		}
	}
	if r.Scope != nil && r.Dst.Addr().Is4() { // IPv6 routes have no scope
		diffs = append(diffs, engine.Differ("scope", int(found.Scope), *r.Scope))
	}
	return engine.First(diffs...)
}

// Apply implements engine.Resource.
func (r Route) Apply(ctx context.Context) error {
	h, want, err := r.netlink()
	if err != nil {
		return err
	}
	if h == nil {
		return fmt.Errorf("link %s: no such link", r.Link)
	}
	if r.Replace {
		return h.RouteReplace(want)
	}
	// One container may have as many networks as it likes; this only ends.
	const networks = 64
	for range networks {
		err = h.RouteAdd(want)
		if ignore(err, unix.EEXIST) != nil || err == nil {
			return err
		}
		if diff, observeErr := r.Observe(ctx); observeErr != nil || diff == engine.Same {
			return observeErr
		}
		if r.Metric != 0 {
			return fmt.Errorf("another route to %s has metric %d: %w", r.Dst, r.Metric, err)
		}
		want.Priority = nextMetric(want.Priority, r.Dst.Addr().Is6())
	}
	return err
}

// noMetric6 is what the kernel takes for "no metric" (IP6_RT_PRIO_USER).
const noMetric6 = 1024

// nextMetric counts up from what the kernel takes for "no metric".
func nextMetric(metric int, ipv6 bool) int {
	if metric == 0 && ipv6 {
		metric = noMetric6
	}
	return metric + 1
}

// Remove implements engine.Resource.
func (r Route) Remove(context.Context) error {
	h, want, err := r.netlink()
	if err != nil || h == nil {
		return err
	}
	want.Priority, want.MTU, want.AdvMSS = r.Metric, 0, 0 // the kernel deletes only what matches
	return ignore(h.RouteDel(want), unix.ESRCH)
}

// netlink returns a nil handle where the link is not there.
func (r Route) netlink() (*netlink.Handle, *netlink.Route, error) {
	h, err := r.NS.Netlink()
	if err != nil {
		return nil, nil, err
	}
	l, err := h.LinkByName(r.Link)
	if err != nil {
		if notFound(err) {
			return nil, nil, nil
		}
		return nil, nil, err
	}
	out := &netlink.Route{
		LinkIndex: l.Attrs().Index, Dst: ipNet(r.Dst.Masked()), Table: r.Table,
		Priority: r.Metric, MTU: r.MTU, AdvMSS: r.AdvMSS,
	}
	if r.OnLink {
		out.Flags = int(netlink.FLAG_ONLINK)
	}
	if r.Src.IsValid() {
		out.Src = r.Src.AsSlice()
	}
	if r.GW.IsValid() {
		out.Gw = net.IP(r.GW.AsSlice())
	} else {
		out.Scope = netlink.SCOPE_LINK
	}
	if r.Scope != nil {
		out.Scope = netlink.Scope(*r.Scope)
	}
	return h, out, nil
}

// DefaultLink returns the name of the link that packets to nowhere in particular
// leave by, empty if there is no default route.
func DefaultLink(ns *netns.NS) (string, error) {
	index, _, err := Default(ns)
	if err != nil || index == 0 {
		return "", err
	}
	h, err := ns.Netlink()
	if err != nil {
		return "", err
	}
	l, err := h.LinkByIndex(index)
	if err != nil {
		return "", err
	}
	return l.Attrs().Name, nil
}

// Default returns the index of the link that packets to nowhere in particular
// leave by, and its MTU; 0 if there is no default route. It asks for the
// route to an address reserved for documentation (RFC 5737, RFC 3849) and
// sends nothing.
func Default(ns *netns.NS) (index, mtu int, err error) {
	h, err := ns.Netlink()
	if err != nil {
		return 0, 0, err
	}
	for _, nowhere := range []string{"203.0.113.1", "2001:db8:ffff::1"} {
		routes, err := h.RouteGet(net.ParseIP(nowhere))
		if err != nil || len(routes) == 0 {
			continue // ENETUNREACH
		}
		l, err := h.LinkByIndex(routes[0].LinkIndex)
		if err != nil {
			return 0, 0, err
		}
		if l.Attrs().Flags&net.FlagLoopback == 0 {
			return l.Attrs().Index, l.Attrs().MTU, nil
		}
	}
	return 0, 0, nil
}

// LinkTo returns the name of the link by which packets to dst leave, "" if none
// does. It sends nothing.
func LinkTo(ns *netns.NS, dst netip.Addr) (string, error) {
	link, _, err := linkTo(ns, dst)
	return link, err
}

// OnLink is LinkTo for a destination that is reached without a gateway; "" if it
// is behind one.
func OnLink(ns *netns.NS, dst netip.Addr) (string, error) {
	link, gateway, err := linkTo(ns, dst)
	if gateway {
		return "", err
	}
	return link, err
}

func linkTo(ns *netns.NS, dst netip.Addr) (link string, gateway bool, err error) {
	h, err := ns.Netlink()
	if err != nil {
		return "", false, err
	}
	routes, err := h.RouteGet(dst.AsSlice())
	if err != nil || len(routes) == 0 { // ENETUNREACH, EHOSTUNREACH, or what a rule prohibits
		return "", false, nil //nolint:nilerr // the answer
	}
	l, err := h.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return "", false, err
	}
	return l.Attrs().Name, routes[0].Gw != nil || routes[0].Via != nil, nil
}
