package view

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/format"
	"github.com/dockyard-cni/dockyard/integration/testnet/golden"
	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// example is a host with networks of several drivers and owners, and containers in every
// state.
func example() *inventory.Inventory {
	web := owner.Key{Network: "app", ContainerID: "default-0123456789012345678901234567890123456789012345678901234567890123", IfName: "eth0"}
	back := owner.Key{Network: "backend", ContainerID: web.ContainerID, IfName: "eth1"}
	dead := owner.Key{Network: "app", ContainerID: "dead", IfName: "eth0"}
	port := []inventory.AskedPort{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}, {HostPort: 53, ContainerPort: 53, Protocol: "udp", HostIP: "192.0.2.1"}}
	veth := func(k owner.Key) link.Listed {
		return link.Listed{Name: k.Mark().Link("veth"), Alias: string(k.Mark()), RxBytes: 10, TxBytes: 20}
	}
	return inventory.Join(inventory.Sources{
		Networks: []inventory.Network{
			inventory.ParseNetwork("/etc/cni/net.d/zz-dockyard-app.conflist", []byte(`{"name": "app",
				"dockyard": {"created": "2026-01-01T00:00:00Z", "labels": {"tier": "front", "a": "b"}, "options": {"mtu": "1400"}},
				"plugins": [{"type": "bridge", "bridge": "app", "mtu": 1400, "ipam": {"type": "host-local",
				"ranges": [[{"subnet": "10.213.0.0/24", "rangeStart": "10.213.0.128", "rangeEnd": "10.213.0.255"}], [{"subnet": "fd00::/64"}]]}}, {"type": "portmap"}]}`)),
			inventory.ParseNetwork("/etc/cni/net.d/b.conflist", []byte(`{"name": "backend", "dockyard": {"created": "2025-12-01T00:00:00Z"},
				"plugins": [{"type": "bridge", "internal": true, "ipam": {"type": "host-local", "subnet": "10.213.1.0/24"}}]}`)),
			inventory.ParseNetwork("/etc/cni/net.d/c.conflist", []byte(`{"name": "lan", "dockyard": {"created": "2025-12-01T00:00:00Z"}, "plugins": [{"type": "macvlan", "master": "eth0"}]}`)),
			inventory.ParseNetwork("/etc/cni/net.d/d.conflist", []byte(`{"name": "mesh", "dockyard": {"created": "2025-12-01T00:00:00Z"}, "plugins": [{"type": "vxlan-overlay", "vni": 7, "subnets": ["10.9.0.0/16"]}]}`)),
		},
		Cache: []inventory.Cached{
			{Key: web, NetNS: "/proc/1/ns/net", MAC: "02:00:00:00:00:01", Ports: port, Since: now.Add(-90 * time.Minute), IPs: []netip.Prefix{netip.MustParsePrefix("10.213.0.130/24"), netip.MustParsePrefix("fd00::2/64")}},
			{Key: back, NetNS: "/proc/1/ns/net", Ports: port, Since: now.Add(-49 * time.Hour), IPs: []netip.Prefix{netip.MustParsePrefix("10.213.1.2/24")}},
			{Key: dead, NetNS: "/run/netns/dead", Since: now.Add(-time.Minute)},
		},
		Containers: []inventory.Container{{Runtime: "nerdctl", Namespace: "default", Name: "web", ID: web.ContainerID[8:], CNIID: web.ContainerID}},
		Links:      []link.Listed{veth(web), veth(back)},
		Ports: []nft.HeldPort{
			{Mark: web.Mark(), HostPort: 8080, Protocol: nat.TCP, Target: netip.MustParseAddrPort("10.213.0.130:80")},
			{Mark: web.Mark(), HostIP: netip.MustParseAddr("192.0.2.1"), HostPort: 53, Protocol: nat.UDP, Target: netip.MustParseAddrPort("10.213.0.130:53")},
		},
		Records: []zone.Record{{Mark: web.Mark(), Network: "app", ContainerID: web.ContainerID, Names: []string{"web", "front"}}},
	})
}

// TestViews prints each list in each form.
func TestViews(t *testing.T) {
	var b bytes.Buffer
	inv := example()
	part := func(name string, err error) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b.WriteString("\n")
	}
	filters := func(args ...string) Filters {
		f, err := ParseFilters(args)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, form := range []string{"", "table {{.Name}}\t{{.Label \"tier\"}}", "json", `{{.Name}}\t{{.IPv6}} {{.Labels}} {{.CreatedAt}}`} {
		rows, err := Networks(inv, nil, false)
		part("networks", err)
		part(form, NetworkList().Print(&b, form, rows))
	}
	for _, f := range [][]string{{"driver=bridge"}, {"driver=vxlan-overlay", "driver=macvlan"}, {"label=tier=front", "label=a"}, {"label!=tier", "driver=bridge"},
		{"dangling=false"}, {"scope=global"}, {"name=a", "name=esh"}, {"type=builtin"}, {"until=2025-12-15T00:00:00Z"}} {
		rows, err := Networks(inv, filters(f...), false)
		part("filter", err)
		for _, r := range rows {
			b.WriteString(f[0] + ": " + r.Name + "\n")
		}
	}
	rows, err := Attachments(inv, nil, false, now)
	part("ps", err)
	part("ps", AttachmentList().Print(&b, "", rows))
	rows, err = Attachments(inv, filters("status=up", "port=8080", "runtime=nerdctl"), true, now)
	part("ps", err)
	part("ps", AttachmentList().Print(&b, "json", rows))
	part("port", PortList().Print(&b, "", Ports(inv, nil)))
	part("names", NameList().Print(&b, "", Names(inv, "app")))
	n, err := inv.Network("app")
	part("inspect", err)
	part("inspect", PrintInspected(&b, "", []Inspected{Inspect(inv, n)}))
	part("inspect", PrintInspected(&b, "{{.ID}} {{(index .IPAM.Config 0).Subnet}}", []Inspected{Inspect(inv, n)}))
	part("inspect", PrintInspected(&b, "{{.Id}} {{json .Labels}}", []Inspected{Inspect(inv, n)}))
	golden.File(t, "testdata/views.golden", b.String())
}

// TestBadForms: a filter that there is not, a template that cannot be parsed, a field
// that there is not.
func TestBadForms(t *testing.T) {
	inv := example()
	for _, f := range []string{"nosuch=x", "dangling=perhaps", "type=x", "until=yesterday"} {
		if _, err := Networks(inv, Filters{f[:len(f)-len(f[indexOf(f)+1:])-1]: {f[indexOf(f)+1:]}}, false); err == nil {
			t.Errorf("filter %s is taken", f)
		}
	}
	var b bytes.Buffer
	if err := NetworkList().Print(&b, "{{", nil); !errors.Is(err, format.ErrTemplate) {
		t.Errorf("error %v", err)
	}
	if err := PrintInspected(&b, "{{.Nosuch}}", []Inspected{{}}); err == nil {
		t.Error("a field that there is not is taken")
	}
}

func indexOf(s string) int { return bytes.IndexByte([]byte(s), '=') }
