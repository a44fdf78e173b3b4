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
	hosts, err := s.Look(t.Context())
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
			if _, errs[i] = members[i].Look(t.Context()); errs[i] == nil {
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

// What is not ours, or not an overlay's, is refused, and says nothing about hosts.
func TestForeign(t *testing.T) {
	client := etcd(t)
	for key, value := range map[string]string{
		"network":                `{"subnets": ["10.1.0.0/24"], "vni": 2, "port": 4789}`,
		"hosts/192.0.0.9":        `{"address": "192.0.0.8", "id": "x"}`,
		"hosts/192.0.0.1":        `{"address": "192.0.0.1", "id": "another machine"}`,
		"blocks/10.1.0.0-29":     `nobody`,
		"blocks/10.2.0.0-29":     `192.0.0.1`,
		"blocks/10.1.0.0-24/x":   `192.0.0.1`,
		"members/192.0.0.1":      ``,
		"hosts/192.0.0.7":        "\x00\xff garbage",
		"hosts/fd00::7":          `{"address": "fd00::7", "blocks": 7}`,
		"blocks/10.1.0.0-30":     `192.0.0.1`,
		"blocks/not a block-200": `192.0.0.1`,
	} {
		ctx := t.Context()
		if _, err := client.Delete(ctx, "/test/", clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
		look(t, member(t, client, 2))
		if _, err := client.Put(ctx, "/test/net/"+key, value); err != nil {
			t.Fatal(err)
		}
		hosts, err := member(t, client, 1).Look(ctx)
		if err == nil || hosts != nil || !strings.Contains(err.Error(), "/test/net/"+key) {
			t.Errorf("%s = %q: %v, %v", key, value, hosts, err)
		}
	}
}
