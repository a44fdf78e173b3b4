package childlink

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
)

// TestComplete: an internal network has no way out, and one in layer 3 no gateways.
func TestComplete(t *testing.T) {
	macvlan, layer3 := link.Driver{Kind: link.Macvlan, Mode: "bridge"}, link.Driver{Kind: link.Ipvlan, Mode: "l3"}
	for name, c := range map[string]struct {
		Config
		gateway string
		routes  []string
	}{
		"layer 2":           {Config{Driver: macvlan}, "10.1.0.1", []string{"0.0.0.0/0 via 10.1.0.1", "10.9.0.0/16 via 10.1.0.9"}},
		"internal":          {Config{Driver: macvlan, Internal: true}, "10.1.0.1", []string{"10.9.0.0/16 via 10.1.0.9"}},
		"layer 3":           {Config{Driver: layer3}, "invalid IP", []string{"0.0.0.0/0 via <nil>", "10.9.0.0/16 via <nil>"}},
		"layer 3, internal": {Config{Driver: layer3, Internal: true}, "invalid IP", []string{"10.9.0.0/16 via <nil>"}},
	} {
		a := &cni.Attachment{
			IPs: []cni.IP{{Prefix: netip.MustParsePrefix("10.1.0.7/24"), Gateway: netip.MustParseAddr("10.1.0.1")}},
			Routes: []*types.Route{
				{Dst: net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, GW: net.ParseIP("10.1.0.1")},
				{Dst: net.IPNet{IP: net.ParseIP("10.9.0.0"), Mask: net.CIDRMask(16, 32)}, GW: net.ParseIP("10.1.0.9")},
			},
		}
		if err := c.Complete(a); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var routes []string
		for _, r := range a.Routes {
			routes = append(routes, r.Dst.String()+" via "+r.GW.String())
		}
		if a.IPs[0].Gateway.String() != c.gateway || !slices.Equal(routes, c.routes) {
			t.Errorf("%s: gateway %s, routes %q, want %s, %q", name, a.IPs[0].Gateway, routes, c.gateway, c.routes)
		}
	}
}

// TestName: which link of the host is the parent.
func TestName(t *testing.T) {
	for want, c := range map[string]Config{
		"eth0":                   {Master: "eth0", parent: "eth0"},
		"eth0.20":                {Master: "eth0", parent: "eth0", VLAN: 20},
		link.Dummy("net").Name:   {Internal: true},
		"eth0 of the container":  {LinkInContainer: true, Internal: true, parent: "eth0 of the container"},
		"eth0 though internally": {Internal: true, Master: "eth0", parent: "eth0 though internally"},
	} {
		if got := c.name("net"); got != want {
			t.Errorf("%+v: %s, want %s", c, got, want)
		}
	}
}

// TestConflicts: what excludes what is said by the keys that do.
func TestConflicts(t *testing.T) {
	const kind = link.Macvlan
	for want, change := range map[string]func(*Config){
		"":                            func(*Config) {},
		"mode":                        func(c *Config) { c.Mode = "l3" },
		"master, vlan":                func(c *Config) { c.Master, c.VLAN = "a-long-name-01", 4000 },
		"vlan, linkInContainer":       func(c *Config) { c.VLAN, c.LinkInContainer = 5, true },
		"internal, vlan":              func(c *Config) { c.VLAN, c.Internal, c.Master = 5, true, "" },
		"hostAccess, linkInContainer": func(c *Config) { c.HostAccess, c.LinkInContainer = true, true },
		"hostAccess, mode":            func(c *Config) { c.HostAccess, c.Mode = true, "private" },
		"duplicateCheck":              func(c *Config) { c.DuplicateCheck = -1 },
	} {
		c := Defaults(link.Driver{Kind: kind, Mode: "bridge"})
		c.Master = "eth0"
		change(&c)
		var rep conf.Report
		c.Validate(nil, &rep)
		err := rep.Err()
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want+": ") {
			t.Errorf("want a problem of %q, got %v", want, err)
		}
	}
}
