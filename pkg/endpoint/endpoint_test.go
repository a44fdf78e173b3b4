package endpoint

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// attachment has an address of each family and the routes given.
func attachment(routes ...*types.Route) *cni.Attachment {
	return &cni.Attachment{
		Request: &cni.Request{
			Owner: owner.Key{Network: "net", ContainerID: "c1", IfName: "eth0"},
			NetNS: netns.At("/ns"),
		},
		IPs: []cni.IP{
			{Prefix: netip.MustParsePrefix("10.1.0.2/24"), Gateway: netip.MustParseAddr("10.1.0.1")},
			{Prefix: netip.MustParsePrefix("fd00::2/64"), Gateway: netip.MustParseAddr("fd00::1")},
		},
		Routes: routes,
	}
}

func via(dst, gw string) *types.Route {
	_, n, err := net.ParseCIDR(dst)
	if err != nil {
		panic(err)
	}
	return &types.Route{Dst: *n, GW: net.ParseIP(gw)}
}

// routes returns the lines of the plan that make routes.
func routes(a *cni.Attachment, o Options) (out []string) {
	var p engine.Plan
	Plan(&p, a, o)
	for _, s := range p {
		if _, rest, ok := strings.Cut(s.String(), "route add "); ok {
			out = append(out, rest)
		}
	}
	return out
}

func TestRoutes(t *testing.T) {
	priority, low, high := 7, -MaxPriority, MaxPriority
	link, global, table := 253, 0, 100
	with := func(r *types.Route, edit func(*types.Route)) *types.Route { edit(r); return r }
	for _, c := range []struct {
		name    string
		route   *types.Route
		options Options
		want    string
	}{
		{"the gateway of the family", via("10.9.0.0/16", ""), Options{}, "10.9.0.0/16 via 10.1.0.1 dev eth0"},
		{"of IPv6 too", via("fd09::/32", ""), Options{}, "fd09::/32 via fd00::1 dev eth0"},
		{"a gateway of its own", via("10.9.0.0/16", "10.1.0.9"), Options{}, "10.9.0.0/16 via 10.1.0.9 dev eth0"},
		{"the link leads there", via("0.0.0.0/0", "10.1.0.1"), Options{OnLink: true}, "0.0.0.0/0 dev eth0"},
		{"scope link needs no gateway", with(via("10.9.0.0/16", ""), func(r *types.Route) { r.Scope = &link }), Options{}, "10.9.0.0/16 dev eth0 scope 253"},
		{"scope global does", with(via("10.9.0.0/16", ""), func(r *types.Route) { r.Scope = &global }), Options{}, "10.9.0.0/16 via 10.1.0.1 dev eth0 scope 0"},
		{"all attributes", with(via("10.9.0.0/16", ""), func(r *types.Route) { r.MTU, r.AdvMSS, r.Priority, r.Table = 1400, 1360, 5, &table }), Options{}, "10.9.0.0/16 via 10.1.0.1 dev eth0 metric 5 table 100 mtu 1400 advmss 1360"},
		{"priority is of the default route", via("10.9.0.0/16", ""), Options{Priority: &priority}, "10.9.0.0/16 via 10.1.0.1 dev eth0"},
		{"the higher the lower its metric", via("0.0.0.0/0", ""), Options{Priority: &priority}, "0.0.0.0/0 via 10.1.0.1 dev eth0 metric 1048570"},
		{"the highest has metric 1", via("::/0", ""), Options{Priority: &high}, "::/0 via fd00::1 dev eth0 metric 1"},
		{"the lowest", via("::/0", ""), Options{Priority: &low}, "::/0 via fd00::1 dev eth0 metric 2097153"},
		{"its own metric counts", with(via("0.0.0.0/0", ""), func(r *types.Route) { r.Priority = 5 }), Options{Priority: &priority}, "0.0.0.0/0 via 10.1.0.1 dev eth0 metric 5"},
	} {
		if got := routes(attachment(c.route), c.options); len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	a := attachment(via("0.0.0.0/0", "10.1.9.1"), via("::/0", ""), via("::/0", "fe80::1"))
	a.IPs[0].Prefix, a.IPs[1].Prefix = netip.MustParsePrefix("10.1.0.2/32"), netip.MustParsePrefix("fd00::2/128")
	if got, want := strings.Join(routes(a, Options{}), "; "), "0.0.0.0/0 via 10.1.9.1 dev eth0 onlink; ::/0 via fd00::1 dev eth0 onlink; ::/0 via fe80::1 dev eth0"; got != want {
		t.Errorf("addresses that are alone: %q, want %q", got, want)
	}
	a = attachment(via("fd09::/32", ""))
	a.IPs = a.IPs[:1]
	if got := routes(a, Options{}); len(got) != 1 || got[0] != "fd09::/32 dev eth0" {
		t.Errorf("no gateway of the family: %q", got)
	}
}

// The MAC address of prevResult is a fact; then comes what is asked for, then
// what belongs to the address.
func TestMAC(t *testing.T) {
	fact, asked := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	a := attachment()
	if got, want := MAC(a, nil).String(), owner.MACOf(a.IPs[0].Prefix.Addr()).String(); got != want {
		t.Errorf("of the address: %s, want %s", got, want)
	}
	if got := MAC(a, asked); got.String() != asked.String() {
		t.Errorf("asked for: %s", got)
	}
	a.IPs = nil
	if got, want := MAC(a, nil).String(), a.Mark().MAC().String(); got != want {
		t.Errorf("without address: %s, want %s", got, want)
	}
	a.MAC = fact
	if got := MAC(a, asked); got.String() != fact.String() {
		t.Errorf("of prevResult: %s", got)
	}
}

// The link is up before its addresses and routes; without an address it is only
// up.
func TestPlan(t *testing.T) {
	var p engine.Plan
	a := attachment(via("0.0.0.0/0", ""))
	Plan(&p, a, Options{})
	var order []string
	for _, s := range p {
		order = append(order, strings.Fields(s.Key())[0])
		if s.Role != engine.Ensure {
			t.Errorf("%s is not ensured: it goes with the link", s)
		}
	}
	if got := strings.Join(order, " "); got != "sysctl sysctl link addr addr route" {
		t.Errorf("%s", got)
	}
	p, a.IPs, a.Routes = nil, nil, nil
	if Plan(&p, a, Options{Announce: true}); len(p) == 0 || !strings.Contains(p.String(), "link set eth0 up") {
		t.Errorf("without address:\n%s", p)
	}
}
