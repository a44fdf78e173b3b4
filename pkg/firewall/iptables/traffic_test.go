package iptables

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
)

// lab makes a host with the containers c1 and c2 on br0 and a client on eth9:
// .1 of each network is the host, c1 and the client are .2, c2 is .3.
func lab(t *testing.T) *testnet.Host {
	t.Helper()
	h := testnet.New(t)
	// To forward, the host asks for a neighbour from its link-local address,
	// which is not used before its own duplicate detection is through.
	write(t, "/proc/sys/net/ipv6/conf/default/accept_dad", "0")
	h.Run("ip", "link", "add", "br0", "type", "bridge")
	address(h, "br0", "10.1.0.1/24", "fd00::1/64")
	plug(h, "c1", "v1", "10.1.0.", "fd00::", "2")
	plug(h, "c2", "v2", "10.1.0.", "fd00::", "3")
	for _, port := range []string{"v1", "v2"} {
		h.Run("ip", "link", "set", port, "master", "br0")
		// Only with br_netfilter: it translates before the bridge forwards.
		h.Run("ip", "link", "set", port, "type", "bridge_slave", "hairpin", "on")
	}
	plug(h, "client", "eth9", "192.0.2.", "2001:db8::", "2")
	address(h, "eth9", "192.0.2.1/24", "2001:db8::1/64")
	for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/conf/br0/route_localnet"} {
		write(t, "/proc/sys/net/"+key, "1")
	}
	for _, dev := range []string{"br0", "eth9"} {
		testnet.Eventually(t, func() error {
			if h.Run("ip", "-6", "address", "show", "dev", dev, "scope", "link", "-tentative") == "" {
				return fmt.Errorf("%s has no link-local address", dev)
			}
			return nil
		})
	}
	return h
}

// plug makes a namespace whose eth0 is the peer of dev.
func plug(h *testnet.Host, name, dev, net4, net6, last string) {
	h.Container(name)
	h.Run("ip", "link", "add", dev, "up", "type", "veth", "peer", "eth0", "netns", name)
	h.In(name, func() {
		h.Run("ip", "link", "set", "lo", "up")
		address(h, "eth0", net4+last+"/24", net6+last+"/64")
		h.Run("ip", "route", "add", "default", "via", net4+"1")
		h.Run("ip", "route", "add", "default", "via", net6+"1")
	})
}

func address(h *testnet.Host, dev, addr4, addr6 string) {
	h.Run("ip", "address", "add", addr4, "dev", dev)
	h.Run("ip", "address", "add", addr6, "dev", dev, "nodad")
	h.Run("ip", "link", "set", dev, "up")
}

func write(t *testing.T, path, value string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// serve answers on port 80 of a container with the address of who asks.
func serve(t *testing.T, h *testnet.Host, container string) {
	t.Helper()
	h.In(container, func() {
		l, err := net.Listen("tcp", ":80")
		if err != nil {
			t.Error(err)
			return
		}
		p, err := net.ListenPacket("udp", ":80")
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { _ = errors.Join(l.Close(), p.Close()) })
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				_, _ = io.WriteString(c, host(c.RemoteAddr()))
				_ = c.Close()
			}
		}()
		go func() {
			for _, from, err := p.ReadFrom(nil); err == nil; _, from, err = p.ReadFrom(nil) {
				_, _ = p.WriteTo([]byte(host(from)), from)
			}
		}()
	})
}

func host(a net.Addr) string {
	return netip.MustParseAddrPort(a.String()).Addr().Unmap().String()
}

// ask returns as whom the server saw the namespace ("" is the host) that asks.
func ask(h *testnet.Host, from, network, to string) (seen string, err error) {
	in := h.Do
	if from != "" {
		in = func(f func()) { h.In(from, f) }
	}
	in(func() {
		var c net.Conn
		if c, err = net.DialTimeout(network, to, patience); err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err = c.Write([]byte("?")); err != nil && network == "udp" {
			return
		}
		buf := make([]byte, 64)
		var n int
		n, err = c.Read(buf)
		seen = string(buf[:n])
	})
	return seen, err
}

// patience is for a busy machine; only what must not be answered takes as long.
const patience = 2 * time.Second

type question struct{ from, to, seen string }

func hairpin(source nat.Source) []question {
	outside4, outside6 := "192.0.2.2", "2001:db8::2"
	if source == nat.All {
		outside4, outside6 = "10.1.0.1", "fd00::1"
	}
	return []question{
		{"client", "192.0.2.1:8080", outside4},
		{"client", "[2001:db8::1]:8080", outside6},
		{"", "192.0.2.1:8080", ""},
		{"", "[2001:db8::1]:8080", ""},
		{"", "10.1.0.1:8080", "10.1.0.1"},
		{"", "[fd00::1]:8080", "fd00::1"},
		{"", "127.0.0.1:8080", "10.1.0.1"},
		{"c1", "192.0.2.1:8080", "10.1.0.1"},
		{"c1", "10.1.0.1:8080", "10.1.0.1"},
		{"c1", "[2001:db8::1]:8080", "fd00::1"},
		{"c1", "[fd00::1]:8080", "fd00::1"},
		{"c2", "192.0.2.1:8080", "10.1.0.1"},
		{"c2", "10.1.0.1:8080", "10.1.0.1"},
		{"c2", "[2001:db8::1]:8080", "fd00::1"},
		{"c2", "[fd00::1]:8080", "fd00::1"},
	}
}

func TestTraffic(t *testing.T) {
	for source, name := range map[nat.Source]string{nat.Hairpin: "hairpin", nat.All: "all"} {
		for _, filter := range []string{"0", "1"} {
			t.Run(fmt.Sprintf("%s, br_netfilter %s", name, filter), func(t *testing.T) {
				t.Parallel()
				h := lab(t)
				write(t, "/proc/sys/net/bridge/bridge-nf-call-iptables", filter)
				write(t, "/proc/sys/net/bridge/bridge-nf-call-ip6tables", filter)
				serve(t, h, "c1")
				p := publish("eth0")
				for _, proto := range []nat.Protocol{nat.TCP, nat.UDP} {
					p.Mappings = append(p.Mappings, port(proto, "8080", "10.1.0.2:80"), port(proto, "8080", "[fd00::2]:80"))
				}
				p.Source = source
				r := Publish(p)
				applied(t, r)
				for _, q := range hairpin(source) {
					for _, network := range []string{"tcp", "udp"} {
						if seen, err := ask(h, q.from, network, q.to); err != nil || q.seen != "" && seen != q.seen {
							t.Errorf("%q to %s %s: seen as %q, want %q: %v", q.from, network, q.to, seen, q.seen, err)
						}
					}
				}
				if err := r.Remove(ctx); err != nil {
					t.Fatal(err)
				}
				if seen, err := ask(h, "client", "tcp", "192.0.2.1:8080"); err == nil {
					t.Errorf("answered after remove, seen as %s", seen)
				}
			})
		}
	}
}

// A port of 127.0.0.1 is the host's alone, one of an address is not that of
// another; and conditions hold.
func TestNarrow(t *testing.T) {
	t.Parallel()
	h := lab(t)
	serve(t, h, "c1")
	p := publish("eth0", port(nat.TCP, "127.0.0.1:81", "10.1.0.2:80"), port(nat.TCP, "192.0.2.1:82", "10.1.0.2:80"))
	conditional := publish("eth1", port(nat.TCP, "83", "10.1.0.2:80"))
	conditional.ConditionsV4 = []string{"!", "-s", "192.0.2.2"}
	applied(t, Publish(p), Publish(conditional))
	// The client believes that the host's loopback is the next hop. It would not
	// take an answer, but the question alone must not get through.
	for _, local := range []string{"127.0.0.0/8", "127.0.0.1"} {
		h.Run("ip", "-n", "client", "route", "del", "local", local, "table", "local", "dev", "lo")
	}
	h.Run("ip", "-n", "client", "route", "add", "127.0.0.1", "via", "192.0.2.1", "src", "192.0.2.2")
	for _, c := range []struct {
		from, to string
		answers  bool
	}{
		{"", "127.0.0.1:81", true},
		{"", "192.0.2.1:81", false},
		{"client", "192.0.2.1:81", false},
		{"client", "127.0.0.1:81", false},
		{"client", "192.0.2.1:82", true},
		{"", "10.1.0.1:82", false},
		{"c2", "10.1.0.1:82", false},
		{"client", "192.0.2.1:83", false},
		{"c2", "192.0.2.1:83", true},
	} {
		if _, err := ask(h, c.from, "tcp", c.to); (err == nil) != c.answers {
			t.Errorf("%q to %s: %v", c.from, c.to, err)
		}
	}
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flows {
		if f.Forward.DstIP.IsLoopback() && !f.Forward.SrcIP.IsLoopback() && !f.Reverse.SrcIP.Equal(f.Forward.DstIP) {
			t.Errorf("translated: %s", f)
		}
	}
}

func TestMasquerade(t *testing.T) {
	for _, filter := range []string{"0", "1"} {
		t.Run("br_netfilter "+filter, func(t *testing.T) {
			t.Parallel()
			h := lab(t)
			write(t, "/proc/sys/net/bridge/bridge-nf-call-iptables", filter)
			write(t, "/proc/sys/net/bridge/bridge-nf-call-ip6tables", filter)
			serve(t, h, "client")
			serve(t, h, "c2")
			applied(t, Masquerade(nat.Masquerade{Mark: mark("eth0"), Bridge: "br0", Addrs: []netip.Prefix{
				netip.MustParsePrefix("10.1.0.2/24"), netip.MustParsePrefix("fd00::2/64")}}))
			for _, q := range []question{
				{"c1", "192.0.2.2:80", "192.0.2.1"},
				{"c1", "[2001:db8::2]:80", "2001:db8::1"},
				{"c1", "10.1.0.3:80", "10.1.0.2"},
				{"c1", "[fd00::3]:80", "fd00::2"},
				{"c2", "192.0.2.2:80", "10.1.0.3"},
			} {
				for _, network := range []string{"tcp", "udp"} {
					if seen, err := ask(h, q.from, network, q.to); err != nil || seen != q.seen {
						t.Errorf("%s to %s %s: seen as %q, want %q: %v", q.from, network, q.to, seen, q.seen, err)
					}
				}
			}
		})
	}
}
