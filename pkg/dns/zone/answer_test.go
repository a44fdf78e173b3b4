package zone

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

func record(network, container, ifName string, names []string, addrs ...string) *Record {
	r := &Record{
		Mark:    owner.Key{Network: network, ContainerID: container, IfName: ifName}.Mark(),
		Network: network, ContainerID: container, NetNS: "/run/netns/" + container, Names: names, TTL: 5,
	}
	for _, a := range addrs {
		r.Addrs = append(r.Addrs, netip.MustParseAddr(a))
	}
	return r
}

// world is two networks: web and two databases on the first, another web on the
// second, and one container on both.
func world() *Catalog {
	web := record("one", "c1", "eth0", []string{"web", "www"}, "10.1.0.2", "fd00::2")
	web.Services = []Service{{"http", "tcp", 80}}
	domain := record("two", "c4", "eth0", []string{"web"}, "10.2.0.2")
	domain.Domain, domain.TTL = "dns.podman", 60
	both := record("two", "c5", "eth1", []string{"both"}, "10.2.0.5")
	both.Domain = "dns.podman"
	return catalog(
		web, domain, both,
		record("one", "c2", "eth0", []string{"db1", "db"}, "10.1.0.3"),
		record("one", "c3", "eth0", []string{"db2", "db"}, "10.1.0.4", "fd00::4"),
		record("one", "c5", "eth0", []string{"both"}, "10.1.0.5"),
	)
}

// catalog is one of containers of this host that have these records.
func catalog(records ...*Record) *Catalog {
	c := NewCatalog()
	of := map[string][]*Record{}
	for _, r := range records {
		of[r.Mark.Container()] = append(of[r.Mark.Container()], r)
	}
	for container, records := range of {
		c.Set(container, records)
	}
	return c
}

// text puts an answer into words.
func (a Answer) text() string {
	if !a.Known {
		return "?"
	}
	var words []string
	for _, addr := range a.Addrs {
		words = append(words, addr.String())
	}
	slices.Sort(words)
	if a.Name != "" {
		words = append(words, a.Name)
	}
	for _, t := range a.SRV {
		words = append(words, fmt.Sprintf("%s:%d", t.Name, t.Port))
	}
	if a.Rcode != dns.RcodeSuccess {
		words = append(words, dns.RcodeToString[a.Rcode])
	}
	return strings.Join(words, " ")
}

func TestAnswer(t *testing.T) {
	s := world()
	for _, c := range []struct {
		from, name string
		qtype      uint16
		want       string
	}{
		{"c1", "web", dns.TypeA, "10.1.0.2"},
		{"c1", "www", dns.TypeA, "10.1.0.2"},
		{"c1", "web.one", dns.TypeAAAA, "fd00::2"},
		{"c1", "web", dns.TypeANY, "10.1.0.2 fd00::2"},
		{"c1", "db", dns.TypeA, "10.1.0.3 10.1.0.4"},
		{"c1", "db", dns.TypeAAAA, "fd00::4"},
		{"c1", "db1", dns.TypeAAAA, ""}, // known, without that family
		{"c1", "db1", dns.TypeMX, ""},
		{"c1", "db1", dns.TypeHTTPS, ""},
		{"c1", "web.two", dns.TypeA, "?"}, // another network
		{"c1", "web.dns.podman", dns.TypeA, "?"},
		{"c1", "nobody", dns.TypeA, "?"},
		{"c1", "", dns.TypeNS, "?"},
		{"c1", "com", dns.TypeA, "?"},
		{"c4", "web", dns.TypeA, "10.2.0.2"},
		{"c4", "web.dns.podman", dns.TypeA, "10.2.0.2"},
		{"c4", "nobody.dns.podman", dns.TypeA, "NXDOMAIN"}, // ours alone
		{"c4", "dns.podman", dns.TypeSOA, ""},
		{"c4", "nobodydns.podman", dns.TypeA, "?"},
		{"c4", "db", dns.TypeA, "?"},
		{"c5", "web", dns.TypeA, "10.1.0.2 10.2.0.2"},
		{"c5", "web.one", dns.TypeA, "10.1.0.2"},
		{"c5", "web.two", dns.TypeA, "10.2.0.2"},
		{"c5", "both", dns.TypeA, "10.1.0.5 10.2.0.5"},
		{"c1", "both", dns.TypeA, "10.1.0.5"},
		{"c1", "2.0.1.10.in-addr.arpa", dns.TypePTR, "web.one"},
		{"c1", "2.0.2.10.in-addr.arpa", dns.TypePTR, "?"},
		{"c5", "2.0.2.10.in-addr.arpa", dns.TypePTR, "web.two"},
		{"c1", "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", dns.TypePTR, "web.one"},
		{"c1", "1.10.in-addr.arpa", dns.TypePTR, "?"},
		{"c1", "a.b.c.d.in-addr.arpa", dns.TypePTR, "?"},
		{"c1", "0.ip6.arpa", dns.TypePTR, "?"},
		{"c1", "_http._tcp.web", dns.TypeSRV, "web.one:80"},
		{"c1", "_http._tcp.www.one", dns.TypeSRV, "web.one:80"},
		{"c1", "_http._tcp.web", dns.TypeA, ""},
		{"c1", "_http._udp.web", dns.TypeSRV, "NXDOMAIN"},
		{"c1", "_http._tcp.db", dns.TypeSRV, "NXDOMAIN"},
		{"c1", "_http._tcp.nobody", dns.TypeSRV, "?"},
		{"c1", "_", dns.TypeSRV, "?"},
		{"c1", "_._", dns.TypeSRV, "?"},
	} {
		if got := s.View(c.from).Answer(c.name, c.qtype).text(); got != c.want {
			t.Errorf("%s asks %s %s: %q, want %q", c.from, c.name, dns.TypeToString[c.qtype], got, c.want)
		}
	}
	if a := s.View("c5").Answer("web", dns.TypeA); a.TTL != 5 {
		t.Errorf("TTL %d, want the least, 5", a.TTL)
	}
}

// Whatever is asked, there is one answer, and nobody hears of other networks.
func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"web", "db.one", "_http._tcp.web", "2.0.1.10.in-addr.arpa", "..", "x.dns.podman"} {
		f.Add(name, dns.TypeA)
		f.Add(name, dns.TypePTR)
		f.Add(name, dns.TypeSRV)
	}
	s := world()
	f.Fuzz(func(t *testing.T, name string, qtype uint16) {
		for from, v := range s.Views() {
			a := v.Answer(name, qtype)
			if !a.Known && a.text() != "?" || a.text() != v.Answer(name, qtype).text() {
				t.Errorf("%s asks %q: %+v", from, name, a)
			}
			for _, addr := range a.Addrs {
				if from != "c5" && addr.Is4() && addr.As4()[1] != v.Records[0].Addrs[0].As4()[1] {
					t.Errorf("%s asks %q: %s is on another network", from, name, addr)
				}
			}
		}
	})
}
