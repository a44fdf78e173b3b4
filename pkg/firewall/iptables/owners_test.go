package iptables

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
)

func TestHeldPort(t *testing.T) {
	t.Parallel()
	testnet.New(t)
	first := port(nat.TCP, "192.0.2.1:8080", "10.1.0.2:80")
	applied(t, Publish(publish("eth0", first, port(nat.UDP, "53", "10.1.0.2:53"))))
	for _, c := range []struct {
		m    nat.Mapping
		held string
	}{
		{port(nat.TCP, "8080", "10.1.0.3:80"), "host port tcp 8080"},
		{port(nat.TCP, "192.0.2.1:8080", "10.1.0.3:80"), "host port tcp 192.0.2.1:8080"},
		{port(nat.UDP, "192.0.2.9:53", "10.1.0.3:53"), "host port udp 192.0.2.9:53"},
		{port(nat.TCP, "192.0.2.10:8080", "10.1.0.3:80"), ""},
		{port(nat.UDP, "8080", "10.1.0.3:80"), ""},
		{port(nat.TCP, "53", "10.1.0.3:80"), ""},
		{port(nat.TCP, "8080", "[fd00::3]:80"), ""},
	} {
		r := Publish(publish("other", c.m))
		err := r.Apply(ctx)
		var held *engine.HeldError
		if errors.As(err, &held) != (c.held != "") || held != nil && (held.Holder != string(mark("eth0")) || held.Object != c.held) {
			t.Errorf("%s: %v, want %q", c.m.Host(), err, c.held)
		}
		if err := r.Remove(ctx); err != nil {
			t.Error(err)
		}
	}
}

// The networks of one container may all be asked for the same port.
func TestSiblings(t *testing.T) {
	t.Parallel()
	testnet.New(t)
	one := Publish(publish("eth0", port(nat.TCP, "8080", "10.1.0.2:80")))
	two := Publish(publish("eth1", port(nat.TCP, "8080", "10.2.0.2:80")))
	applied(t, one, two)
	if err := one.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if diff := observed(t, two); diff != engine.Same {
		t.Error(diff)
	}
	if err := two.Remove(ctx); err != nil {
		t.Error(err)
	}
}

// Two attachments of one container, each of both kinds.
func TestIndependent(t *testing.T) {
	t.Parallel()
	testnet.New(t)
	addr := []netip.Prefix{netip.MustParsePrefix("10.1.0.2/24"), netip.MustParsePrefix("fd00::2/64")}
	made := func(ifname, host string) []engine.Resource {
		return []engine.Resource{
			Publish(publish(ifname, port(nat.TCP, host, "10.1.0.2:80"), port(nat.TCP, host, "[fd00::2]:80"))),
			Masquerade(nat.Masquerade{Mark: mark(ifname), Bridge: "br0", Addrs: addr}),
		}
	}
	one, two := made("eth0", "80"), made("eth1", "81")
	applied(t, append(one, two...)...)
	for i, plugin := range []string{"portmap", "bridge"} {
		if err := engine.Release(ctx, []engine.Scope{Scope(plugin)}, mark("eth0"), nil); err != nil {
			t.Fatal(err)
		}
		if diff := observed(t, one[i]); diff != engine.Absent {
			t.Errorf("released: %s", diff)
		}
		for _, r := range append(two, one[i+1:]...) {
			if diff := observed(t, r); diff != engine.Same {
				t.Errorf("%s of %s released: %s: %s", plugin, mark("eth0"), r.Key(), diff)
			}
		}
	}
}

func TestScope(t *testing.T) {
	t.Parallel()
	h := testnet.New(t)
	scopes := []engine.Scope{Scope("portmap"), Scope("bridge")}
	if found, err := scopes[0].All(ctx); len(found) != 0 || err != nil {
		t.Fatalf("fresh host: %v, %v", found, err)
	}
	for i, name := range []string{"hairpin", "masquerade"} {
		applied(t, resources()[name])
		if name == "hairpin" { // its entries gone, its chain still there
			h.Run("iptables", "-t", "nat", "-F", "DY-HOSTPORT")
		}
		all, err := scopes[i].All(ctx)
		if err != nil || len(all) != 1 || all[0].Mark != mark("eth0") {
			t.Errorf("%s: all: %v, %v", name, all, err)
		}
		if of, err := scopes[i].Of(ctx, mark("eth0")); err != nil || len(of) != 1 {
			t.Errorf("%s: of: %v, %v", name, of, err)
		}
		if of, err := scopes[i].Of(ctx, mark("eth1")); err != nil || len(of) != 0 {
			t.Errorf("%s: of another: %v, %v", name, of, err)
		}
	}
	if err := engine.Prune(ctx, scopes, func(m owner.Mark) bool { return m == mark("eth0") }, nil); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1, 1, 0, 0} {
		if found, err := scopes[i%2].All(ctx); len(found) != want || err != nil {
			t.Errorf("%v, %v; want %d", found, err, want)
		}
		if i == 1 {
			if err := engine.Prune(ctx, scopes, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if left := saved(h); strings.Contains(left, "net/c1") || strings.Contains(left, ":DY-DN") {
		t.Errorf("left behind:\n%s", left)
	}
}

func TestParallel(t *testing.T) {
	t.Parallel()
	const owners = 8
	h := testnet.New(t)
	each := func(f func(i int)) {
		var all sync.WaitGroup
		for i := range owners {
			all.Go(func() { h.Do(func() { f(i) }) })
		}
		all.Wait()
	}
	var rs, rivals [owners]engine.Resource
	for i := range owners {
		host := fmt.Sprint(8000 + i)
		rs[i] = Publish(publish("eth"+host, port(nat.TCP, host, "10.1.0.2:80"), port(nat.TCP, host, "[fd00::2]:80")))
		rivals[i] = Publish(publish("rival"+host, port(nat.UDP, "53", "10.1.0.2:53")))
	}
	var won [owners]error
	each(func(i int) {
		if err := rs[i].Apply(ctx); err != nil {
			t.Error(err)
		}
		won[i] = rivals[i].Apply(ctx)
	})
	winners := 0
	for i, err := range won {
		var held *engine.HeldError
		if err == nil {
			winners++
		} else if !errors.As(err, &held) {
			t.Error(err)
		}
		if diff := observed(t, rs[i]); diff != engine.Same {
			t.Errorf("%d: %s", i, diff)
		}
	}
	if winners != 1 {
		t.Errorf("%d attachments hold one port", winners)
	}
	each(func(i int) {
		if err := errors.Join(rs[i].Remove(ctx), rivals[i].Remove(ctx)); err != nil {
			t.Error(err)
		}
	})
	left := saved(h)
	if strings.Count(left, "-A ") != 6 || strings.Count(left, ":DY-") != 2 {
		t.Errorf("want three shared rules and one chain a family, found\n%s", left)
	}
}

// What fails half-way must be gone after Remove, and say which rule was refused.
func TestHalfMade(t *testing.T) {
	t.Parallel()
	h := testnet.New(t)
	p := publish("eth0", port(nat.TCP, "80", "10.1.0.2:80"), port(nat.TCP, "80", "[fd00::2]:80"))
	p.ConditionsV6 = []string{"-s", "10.0.0.1"}
	r := Publish(p)
	err := engine.Apply(ctx, engine.Plan{{Role: engine.Own, Resource: r}})
	if err == nil || !strings.Contains(err.Error(), "-s 10.0.0.1") {
		t.Errorf("bad condition: %v", err)
	}
	if diff := observed(t, r); diff != engine.Absent {
		t.Error(diff)
	}
	if left := saved(h); strings.Contains(left, "net/c1") || strings.Contains(left, ":DY-DN") {
		t.Errorf("left behind:\n%s", left)
	}
}

func TestUsable(t *testing.T) {
	t.Parallel()
	h := testnet.New(t)
	before := save(h)
	if err := Usable(); err != nil {
		t.Error(err)
	}
	if after := save(h); after != before {
		t.Errorf("changed %s to %s", before, after)
	}
}
