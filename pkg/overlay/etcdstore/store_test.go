package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/integration/testnet/roundtrip"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

// etcd starts a real one, for the time of the test.
func etcd(t *testing.T) *clientv3.Client {
	t.Helper()
	return ready(t, Access{Endpoints: []string{start(t, "http")}})
}

// start starts an etcd for clients of a scheme, and returns its URL.
func start(t *testing.T, scheme string, args ...string) string {
	t.Helper()
	addresses := [2]string{}
	for i := range addresses {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addresses[i] = l.Addr().String()
		_ = l.Close()
	}
	url, peers := scheme+"://"+addresses[0], "http://"+addresses[1]
	cmd := exec.Command("etcd", append(args, "--data-dir", t.TempDir(), "--listen-client-urls", url, "--advertise-client-urls", url,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers)...)
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; scripts/setup.sh installs it", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return url
}

// ready returns a client once etcd answers it.
func ready(t *testing.T, a Access) *clientv3.Client {
	t.Helper()
	client, err := Dial(a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), testnet.Patience)
	defer cancel()
	for {
		if _, err = client.Get(ctx, "ready"); err == nil {
			return client
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

var subnet = netip.MustParsePrefix("10.1.0.0/24")

func member(t *testing.T, client *clientv3.Client, n int) *Store {
	t.Helper()
	return New(t.Context(), client, Options{
		Prefix: "/test", Name: "net", Network: Network{Subnets: []netip.Prefix{subnet}, VNI: 1, Port: 4789},
		Self: peer.Host{Address: netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)})}, ID: fmt.Sprint("machine ", n),
		TTL: 5 * time.Second, Reclaim: time.Hour, Log: slog.New(slog.DiscardHandler),
	})
}

// abreast returns when a store has heard of all that is in etcd.
func abreast(t *testing.T, s *Store) {
	t.Helper()
	res, err := s.client.Get(t.Context(), "any")
	if err != nil {
		t.Fatal(err)
	}
	s.list.reach(t.Context(), res.Header.Revision)
}

func look(t *testing.T, s *Store) peer.Snapshot {
	t.Helper()
	abreast(t, s)
	hosts, _, err := s.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return hosts
}

// Of many hosts that claim at once, each block goes to one; when there is none
// left the others are told so, and one that is returned is had again.
func TestClaim(t *testing.T) {
	client := etcd(t)
	const hosts, blocks = 40, 32
	members, got, errs := make([]*Store, hosts), make([]netip.Prefix, hosts), make([]error, hosts)
	var wg sync.WaitGroup
	for i := range hosts {
		members[i] = member(t, client, i+1)
		wg.Go(func() {
			if _, _, errs[i] = members[i].Look(t.Context()); errs[i] == nil {
				got[i], errs[i] = members[i].Claim(t.Context(), subnet, 29)
			}
		})
	}
	wg.Wait()
	held, lucky, without := map[netip.Prefix]int{}, -1, -1
	for i, err := range errs {
		switch {
		case errors.Is(err, peer.ErrFull):
			without = i
		case err != nil:
			t.Error(err)
		default:
			held[got[i]]++
			lucky = i
		}
	}
	if len(held) != blocks || lucky < 0 || without < 0 {
		t.Fatalf("%d blocks are held, want %d: %v", len(held), blocks, held)
	}
	for b, n := range held {
		if n != 1 || b.Bits() != 29 || !subnet.Contains(b.Addr()) {
			t.Errorf("%s is held by %d", b, n)
		}
	}
	if err := members[without].Return(t.Context(), got[lucky]); err != nil {
		t.Error(err)
	}
	if _, err := members[without].Claim(t.Context(), subnet, 29); !errors.Is(err, peer.ErrFull) {
		t.Errorf("a host gave back another's block: %v", err)
	}
	if err := members[lucky].Return(t.Context(), got[lucky]); err != nil {
		t.Error(err)
	}
	look(t, members[without])
	if b, err := members[without].Claim(t.Context(), subnet, 29); err != nil || b != got[lucky] {
		t.Errorf("%s, %v, want %s", b, err, got[lucky])
	}
	all := look(t, members[0])
	if len(all) != hosts {
		t.Errorf("%d hosts, want %d", len(all), hosts)
	}
	if h, _ := all.Find(members[without].Self.Address); !slices.Equal(h.Blocks, []netip.Prefix{got[lucky]}) {
		t.Errorf("%+v", h)
	}
}

// A8: what cannot be believed leaves itself out, and is named; all else holds.
func TestA8Foreign(t *testing.T) {
	client := etcd(t)
	other := member(t, client, 2)
	look(t, other)
	block, err := other.Claim(t.Context(), subnet, 29)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ key, value, says string }{
		{"evil/x", "", "no key of an overlay network"},
		{"members/192.0.0.1", "", "no key of an overlay network"},
		{"network/x", "", "no key of an overlay network"},
		{"hosts/192.0.0.7", "\x00\xff garbage", ""},
		{"hosts/192.0.0.9", `{"address": "192.0.0.8", "id": "x"}`, "want that of the key"},
		{"hosts/192.0.0.9", `{"address": "192.0.0.9", "mac": "00:00:00:00:00:00", "id": "x"}`, "unicast MAC address"},
		{"hosts/192.0.0.9", `{"address": "192.0.0.9", "mac": "01:00:00:00:00:09", "id": "x"}`, "unicast"},
		{"hosts/192.0.0.9", `{"address": "192.0.0.9", "mac": "` + owner.MACOf(netip.MustParseAddr("192.0.0.1")).String() + `", "id": "x"}`, "host 192.0.0.1 has it"},
		{"hosts/192.0.0.9", `{"address": "192.0.0.9", "mac": "` + owner.MACOf(netip.MustParseAddr("192.0.0.2")).String() + `", "id": "x"}`, "host 192.0.0.2 has it"},
		{"hosts/192.0.0.9", `{"address": "192.0.0.9", "blocks": ["10.1.0.0/24"], "id": "x"}`, "overlaps " + block.String() + " of host 192.0.0.2"},
		{"hosts/192.0.0.9", `{"address": "192.0.0.9", "blocks": ["10.1.0.0/16"], "id": "x"}`, "not more"},
		{"hosts/224.0.0.9", `{"address": "224.0.0.9", "id": "x"}`, "unicast"},
		{"hosts/fd00::7", `{"address": "fd00::7", "id": "x"}`, "family of 192.0.0.1"},
		{"hosts/fd00::7", `{"address": "fd00::7", "blocks": 7}`, ""},
		{"blocks/10.1.0.0-24", "192.0.0.9", "overlaps " + block.String()},
		{"blocks/10.1.0.0-30", "192.0.0.1", ""},
		{"blocks/10.2.0.0-29", "192.0.0.1", "part of subnets"},
		{"blocks/10.1.0.0-24/x", "192.0.0.1", ""},
		{"blocks/not a block-200", "192.0.0.1", ""},
	} {
		if _, err := client.Put(t.Context(), "/test/net/"+row.key, row.value); err != nil {
			t.Fatal(err)
		}
		self := member(t, client, 1)
		abreast(t, other)
		hosts, leftOut, err := self.Look(t.Context())
		if err != nil || len(hosts) != 2 || len(hosts[1].Blocks) != 1 || hosts[1].Blocks[0] != block {
			t.Errorf("%s = %q: %v, %v", row.key, row.value, hosts, err)
		}
		if text := fmt.Sprint(leftOut); len(leftOut) != 1 || !strings.Contains(text, "/test/net/"+row.key+": ") || !strings.Contains(text, row.says) {
			t.Errorf("%s = %q: left out %s, want it and %q", row.key, row.value, text, row.says)
		}
		if _, err := client.Delete(t.Context(), "/test/net/"+row.key); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Delete(t.Context(), "/test/net/hosts/192.0.0.1"); err != nil {
			t.Fatal(err)
		}
	}
}

// A8: a block whose holder cannot be understood is nobody's to take.
func TestA8UnknownHolder(t *testing.T) {
	client := etcd(t)
	self := member(t, client, 1)
	look(t, self)
	for _, key := range []string{"10.1.0.0-25", "10.1.0.128-26", "10.1.0.192-27", "10.1.0.224-28", "10.1.0.240-29"} {
		if _, err := client.Put(t.Context(), "/test/net/blocks/"+key, "of a later version"); err != nil {
			t.Fatal(err)
		}
	}
	look(t, self)
	self.Reclaim = 0
	if b, err := self.Claim(t.Context(), subnet, 29); err != nil || b.String() != "10.1.0.248/29" {
		t.Errorf("%s, %v, want the only block that nobody has", b, err)
	}
	look(t, self)
	if b, err := self.Claim(t.Context(), subnet, 29); !errors.Is(err, peer.ErrFull) {
		t.Errorf("%s, %v, want none", b, err)
	}
}

// A7: of two hosts with one MAC the one that is registered later is left out, for
// all who look.
func TestA7OneMAC(t *testing.T) {
	client := etcd(t)
	for _, n := range []int{9, 8} {
		value := fmt.Sprintf(`{"address": "192.0.0.%d", "mac": "02:00:00:00:00:07", "id": "x"}`, n)
		if _, err := client.Put(t.Context(), fmt.Sprintf("/test/net/hosts/192.0.0.%d", n), value); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 5 {
		s := member(t, client, n+1)
		hosts, leftOut, err := s.Look(t.Context())
		_, first := hosts.Find(netip.MustParseAddr("192.0.0.9"))
		_, later := hosts.Find(netip.MustParseAddr("192.0.0.8"))
		if err != nil || !first || later || len(leftOut) != 1 || !strings.Contains(leftOut[0].Error(), "hosts/192.0.0.8: mac: found 02:00:00:00:00:07") {
			t.Errorf("%v, %v, %v", hosts, leftOut, err)
		}
	}
}

// A8: where what the hosts must agree on is another, or another machine has this
// one's address, nothing is known. To a host that is registered that is still an
// answer: its blocks are its own.
func TestA8Disagreement(t *testing.T) {
	client := etcd(t)
	self := member(t, client, 1)
	look(t, self)
	for _, row := range [][2]string{
		{"network", `{"subnets": ["10.1.0.0/24"], "vni": 2, "port": 4789}`},
		{"network", `garbage`},
		{"hosts/192.0.0.2", `{"address": "192.0.0.2", "id": "another machine"}`},
	} {
		key, value := row[0], row[1]
		if _, err := client.Put(t.Context(), "/test/net/"+key, value); err != nil {
			t.Fatal(err)
		}
		hosts, _, err := member(t, client, 2).Look(t.Context())
		if err == nil || hosts != nil || !strings.Contains(err.Error(), "/test/net/"+key) || errors.Is(err, peer.ErrAnswered) {
			t.Errorf("%s = %q: %v, %v", key, value, hosts, err)
		}
		abreast(t, self)
		if _, _, err = self.Look(t.Context()); key == "network" && !errors.Is(err, peer.ErrAnswered) {
			t.Errorf("a host that is registered: %v", err)
		}
		if _, err := client.Put(t.Context(), "/test/net/network", `{"subnets": ["10.1.0.0/24"], "vni": 1, "port": 4789}`); err != nil {
			t.Fatal(err)
		}
	}
}

// A7: a machine takes its own registration over, also in the form of an earlier
// version, and does not wait for the lease of its earlier life to end.
func TestA7OlderRegistration(t *testing.T) {
	client := etcd(t)
	look(t, member(t, client, 2))
	if _, err := client.Put(t.Context(), "/test/net/hosts/192.0.0.1", `{"address":"192.0.0.1","mac":null,"blocks":null,"id":"machine 1"}`); err != nil {
		t.Fatal(err)
	}
	if hosts := look(t, member(t, client, 1)); len(hosts) != 2 {
		t.Errorf("%v, want both", hosts)
	}
}

func TestA7RoundTrip(t *testing.T) {
	roundtrip.CheckDecode[registration](t)
	roundtrip.Check[Network](t)
}
