package inventory

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/ipam/lease"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
)

func key(network, id, ifName string) owner.Key {
	return owner.Key{Network: network, ContainerID: id, IfName: ifName}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func veth(k owner.Key) link.Listed {
	return link.Listed{Name: k.Mark().Link("veth"), Kind: "veth", Alias: string(k.Mark()), RxBytes: 1, TxBytes: 2}
}

// TestJoin joins what no layer has alone: whole names for marks that are cut, ports of
// both families as one, standby ports, and who is gone.
func TestJoin(t *testing.T) {
	long := key(strings.Repeat("long-network-", 6), "nerdctl-"+strings.Repeat("a", 64), "eth0")
	web, dead, vlan := key("app", "web", "eth0"), key("app", "dead", "eth0"), key("lan", "db", "eth0")
	second := key("other", "web", "eth1")
	port := nft.HeldPort{Mark: web.Mark(), HostPort: 8080, Protocol: nat.TCP, Target: netip.MustParseAddrPort("10.0.0.2:80")}
	port6 := port
	port6.Target, port6.IPv6 = netip.MustParseAddrPort("[fd00::2]:80"), true
	asked := []AskedPort{{HostPort: 8080, ContainerPort: 80}}
	inv := Join(Sources{
		Networks: []Network{{Name: "app"}, {File: "half.conflist", Problem: "not JSON"}},
		Cache: []Cached{
			{Key: web, NetNS: "/run/netns/web", Ports: asked, Links: []string{web.Mark().Link("veth")}},
			{Key: second, NetNS: "/run/netns/web", Ports: asked},
			{Key: dead, NetNS: "/run/netns/dead", Links: []string{dead.Mark().Link("veth")}},
		},
		Links:   []link.Listed{veth(web), veth(long), {Name: "eth0", Alias: "uplink"}, veth(second)},
		Placed:  []link.Placed{{Mark: vlan.Mark(), Parent: "eth0", Alive: true}},
		Claims:  []nft.Claim{{Kind: "portmap", Mark: web.Mark()}, {Kind: "bridge", Mark: "*/br-gone/policy"}, {Kind: "bridge", Mark: "*/eth0/policy"}},
		Ports:   []nft.HeldPort{port, port6},
		Leases:  []lease.Held{{Addr: addr("10.0.0.2"), Key: web}, {Addr: addr("10.9.0.2"), Key: long}},
		Records: []zone.Record{{Mark: vlan.Mark(), Network: "lan", ContainerID: "db", Names: []string{"db"}, Addrs: []netip.Addr{addr("192.168.1.2")}}},
		NetNS:   func(path string) bool { return path == "/run/netns/web" },
	})
	var got []string
	for _, a := range inv.Attachments {
		got = append(got, fmt.Sprint(a.Network, "/", a.Title(), "/", a.IfName, " ", a.State, " ", a.Addrs, " ", a.HostLink, " ", a.Ports))
	}
	want := []string{
		"app/dead/eth0 gone []  []",
		"app/web/eth0 up [10.0.0.2] " + web.Mark().Link("veth") + " [{ 8080 tcp 80 true}]",
		"lan/db/eth0 up [192.168.1.2] eth0 []",
		long.Network + "/" + long.ContainerID + "/eth0 up [10.9.0.2] " + long.Mark().Link("veth") + " []",
		"other/web/eth1 up [] " + second.Mark().Link("veth") + " [{ 8080 tcp 80 false}]",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("attachments:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	orphans := fmt.Sprint(inv.Orphans())
	if want := "[{app/dead/eth0 [cache] its link " + dead.Mark().Link("veth") + " is gone} {*/br-gone/policy [nft bridge] link br-gone is gone}]"; orphans != want {
		t.Errorf("orphans: %s\nwant: %s", orphans, want)
	}
	if h := inv.PortHolder("tcp", 8080); h == nil || h.Key != web {
		t.Errorf("port 8080 is held by %v", h)
	}
	if h := inv.AddressHolder("lan", addr("192.168.1.2")); h == nil || h.Key != vlan {
		t.Errorf("192.168.1.2 is held by %v", h)
	}
	if fmt.Sprint(inv.Problems) != "[half.conflist: not JSON]" {
		t.Errorf("problems: %v", inv.Problems)
	}
}

// TestFindContainer: whole names before beginnings of IDs, and no guess between two.
func TestFindContainer(t *testing.T) {
	all := []Container{
		{Runtime: "nerdctl", Namespace: "default", Name: "web", ID: "abc123", CNIID: "default-abc123"},
		{Runtime: "podman", Name: "web", ID: "abd456", CNIID: "abd456"},
		{Runtime: "cri-o", Namespace: "kube-system", Name: "dns", ID: "web000", CNIID: "web000"},
	}
	for text, want := range map[string]string{
		"dns": "web000", "abc": "abc123", "default-abc": "abc123", "podman:web": "abd456",
		"default/web": "abc123", "web0": "web000",
		"web": "container web is ambiguous (nerdctl:default/web, podman:web); name one of these, or its ID",
		"ab":  "container ab is ambiguous (nerdctl:default/web, podman:web); name one of these, or its ID",
		"no":  ErrNoContainer.Error(), "": ErrNoContainer.Error(),
	} {
		c, err := FindContainer(all, text)
		got := c.ID
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// TestReadNetworks: a directory with what people leave there.
func TestReadNetworks(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"10-a.conflist":                `{"name": "a", "plugins": [{"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}}]}`,
		"20-half.conflist":             `{"name": "half", "plug`,
		"30-empty.conflist":            ``,
		"40-again.conflist":            `{"name": "a", "plugins": [{"type": "macvlan"}]}`,
		"50-single.conf":               `{"name": "single", "type": "ptp"}`,
		"60-odd.conflist":              `{"name": "odd", "plugins": [{"type": "bridge", "mtu": "big"}]}`,
		"note.txt":                     `hello`,
		"default/nerdctl-net.conflist": `{"name": "net", "nerdctlID": "x", "plugins": [{"type": "bridge"}]}`,
		"70-podman.conflist":           `{"name": "pod", "plugins": [{"type": "bridge", "args": {"podman_labels": {"a": "b"}}}]}`,
		"80-overlay.conflist":          `{"name": "mesh", "plugins": [{"type": "vxlan-overlay", "vni": 7, "subnets": ["10.9.0.0/16"]}]}`,
		"90-ours.conflist":             `{"name": "ours", "dockyard": {"created": "2026-01-02T03:04:05Z", "labels": {"x": "y"}}, "plugins": [{"type": "macvlan", "master": "eth0"}]}`,
		".hidden.conflist":             `{}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, err := ReadNetworks([]string{dir, filepath.Join(dir, "none")})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range found {
		var subnets []string
		for _, s := range n.Subnets {
			subnets = append(subnets, s.Subnet.String()+" "+s.Gateway.String())
		}
		got = append(got, fmt.Sprintf("%s %s %q %s %v %s", n.Name, n.Driver, n.Owner, n.Bridge+n.Master, subnets, strings.ReplaceAll(n.Problem, dir+"/", "")))
	}
	want := []string{
		`a bridge "" cni0 [10.1.0.0/24 10.1.0.1] `,
		`  ""  [] not JSON: unexpected end of JSON input`,
		`  ""  [] empty`,
		`a macvlan ""  [] network a is defined by 10-a.conflist, too`,
		`single ptp ""  [] `,
		`odd bridge "" cni0 [] `,
		`pod bridge "podman" cni0 [] `,
		`mesh overlay "" br-vx7 [10.9.0.0/16 invalid IP] `,
		`ours macvlan "dockyard" eth0 [] `,
		`net bridge "nerdctl" cni0 [] `,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("found:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestNatural: net2 comes before net10.
func TestNatural(t *testing.T) {
	for _, c := range []struct{ a, b string }{{"net2", "net10"}, {"a", "b"}, {"net", "net1"}, {"1a", "1b"}} {
		if Natural(c.a, c.b) >= 0 || Natural(c.b, c.a) <= 0 || Natural(c.a, c.a) != 0 {
			t.Errorf("%q and %q are not in order", c.a, c.b)
		}
	}
}

// TestThousand reads and joins 1,000 attachments. It asks about each namespace once
// at most, and says how long it took.
func TestThousand(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "results"), 0o700); err != nil {
		t.Fatal(err)
	}
	list := `{"name": "app", "plugins": [{"type": "bridge"}]` + strings.Repeat(" ", 1500) + `}`
	for i := range 1000 {
		id := fmt.Sprintf("c%d", i)
		entry := map[string]any{
			"kind": cacheKind, "containerId": id, "ifName": "eth0", "networkName": "app", "netns": "/run/netns/" + id,
			"config": []byte(list), "capabilityArgs": map[string]any{"portMappings": []AskedPort{{HostPort: 1 + i, ContainerPort: 80}}},
			"result": map[string]any{"ips": []any{map[string]any{"address": fmt.Sprintf("10.0.%d.%d/16", i/250, i%250)}}},
		}
		b, err := json.Marshal(entry)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "results", "app-"+id+"-eth0"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start, asked := time.Now(), 0
	cache, err := ReadCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	inv := Join(Sources{Cache: cache, NetNS: func(string) bool { asked++; return true }})
	t.Logf("read and joined 1,000 attachments in %v", time.Since(start))
	if len(inv.Attachments) != 1000 || asked > 1000 {
		t.Errorf("%d attachments, namespaces asked about %d times", len(inv.Attachments), asked)
	}
}
