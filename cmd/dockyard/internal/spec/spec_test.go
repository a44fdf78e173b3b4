package spec

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/integration/testnet/golden"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
)

type fakeHost map[string]string

func (fakeHost) Subnet(ipv6 bool) (netip.Prefix, error) {
	if ipv6 {
		return ULA("machine", "net"), nil
	}
	return netip.MustParsePrefix("10.213.7.0/24"), nil
}

func (h fakeHost) Taken(link string) string { return h[link] }

// TestBuild writes what create would write for each request, and what it says of bad
// ones.
func TestBuild(t *testing.T) {
	host := fakeHost{"docker0": "a link of type bridge", "eth0": "a link of type veth"}
	var b strings.Builder
	for _, c := range []struct {
		what string
		r    Request
	}{
		{"plain", Request{Name: "app", Driver: "bridge", Labels: map[string]string{"com.docker.compose.project": "shop"}}},
		{"both families", Request{Name: "dual", Driver: "bridge", IPv6: true, DNS: []string{"192.0.2.53"}}},
		{"internal", Request{Name: "backend", Driver: "bridge", Internal: true, Subnets: []string{"172.20.0.0/24"}}},
		{"long name", Request{Name: "a-network-of-many-words", Driver: "bridge"}},
		{"name of a link", Request{Name: "docker0", Driver: "bridge"}},
		{"docker's options", Request{Name: "opts", Driver: "bridge", Options: map[string]string{
			"com.docker.network.bridge.name": "br-opts", "com.docker.network.driver.mtu": "1400", "com.docker.network.bridge.enable_icc": "false",
			"com.docker.network.bridge.gateway_mode_ipv4": "routed", "com.docker.network.bridge.trusted_host_interfaces": "wg0:wg1",
			"hostListeners": "refuse", "uniqueNames": "true",
		}}},
		{"ranges", Request{Name: "ranges", Driver: "bridge", Subnets: []string{"172.20.0.0/16", "fd00:20::/64"}, IPRanges: []string{"172.20.10.0/24"},
			Gateways: []string{"172.20.0.254"}, Aux: map[string]string{"router": "172.20.10.5"}}},
		{"macvlan", Request{Name: "lan", Driver: "macvlan", Subnets: []string{"192.168.1.0/24"}, Options: map[string]string{"parent": "eth0.10"}}},
		{"ipvlan", Request{Name: "l3", Driver: "ipvlan", Subnets: []string{"192.168.1.0/24"}, Options: map[string]string{"parent": "eth0", "ipvlan_mode": "l3"}}},
		{"overlay", Request{Name: "mesh", Driver: "overlay", Options: map[string]string{"etcd": "http://10.0.0.5:2379,http://10.0.0.6:2379", "underlay": "eth0"}}},
		{"host bits", Request{Name: "x", Driver: "bridge", Subnets: []string{"172.20.0.1/16"}}},
		{"all problems at once", Request{Name: "a/b", Driver: "bridge", Subnets: []string{"nonsense"}, Options: map[string]string{
			"gatwayMode": "nat", "mtu": "big", "encrypted": "true", "zzzzzzzzz": "1"}}},
		{"driver", Request{Name: "x", Driver: "brigde"}},
		{"too long", Request{Name: strings.Repeat("n", 300), Driver: "bridge"}},
		{"host", Request{Name: "host", Driver: "bridge"}},
		{"gateway elsewhere", Request{Name: "x", Driver: "bridge", Subnets: []string{"172.20.0.0/16"}, Gateways: []string{"10.0.0.1"}, IPRanges: []string{"10.0.0.0/24"}}},
		{"macvlan without subnet", Request{Name: "x", Driver: "macvlan", Options: map[string]string{"parent": "eth0"}}},
	} {
		c.r.Metadata = inventory.Metadata{Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
		text, err := Build(c.r, host)
		b.WriteString("# " + c.what + "\n" + string(text))
		if err != nil {
			b.WriteString(strings.ReplaceAll(err.Error(), strings.Repeat("n", 300), "nnn…") + "\n")
		}
		b.WriteString("\n")
	}
	golden.File(t, "testdata/build.golden", b.String())
}

// TestPick: the first subnet that nobody has, by steps as large as what is in the way.
func TestPick(t *testing.T) {
	pools := []inventory.Pool{{Base: netip.MustParsePrefix("10.213.0.0/16"), Size: 24}, {Base: netip.MustParsePrefix("192.168.240.0/22"), Size: 24}}
	for _, c := range []struct{ used, want string }{
		{"", "10.213.0.0/24"},
		{"10.213.0.0/24 10.213.1.7/32", "10.213.2.0/24"},
		{"10.213.0.0/17", "10.213.128.0/24"},
		{"10.0.0.0/8", "192.168.240.0/24"},
		{"0.0.0.0/1", "10.213.0.0/24"}, // a VPN's that takes all
		{"10.213.0.0/16 192.168.0.0/16", "full"},
	} {
		used := Used{}
		for p := range strings.FieldsSeq(c.used) {
			used.Add(netip.MustParsePrefix(p), "test")
		}
		p, err := Pick(pools, used)
		got := p.String()
		if errors.Is(err, ErrFull) {
			got = "full"
		}
		if got != c.want {
			t.Errorf("with %q: %s, want %s", c.used, got, c.want)
		}
	}
}

// TestParsePort takes docker's forms.
func TestParsePort(t *testing.T) {
	for text, want := range map[string]int{
		"8080:80": 1, "127.0.0.1:8080:80/udp": 1, "[::1]:8080:80": 1, "8000-8002:80-82": 3,
		"80": 0, "8080:80/icmp": 0, "0:80": 0, "70000:80": 0, "8000-8002:80": 0, "x:8080:80": 0, "8002-8000:1-3": 0,
	} {
		ports, err := ParsePort(text)
		if len(ports) != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %v, %v", text, ports, err)
		}
	}
}
