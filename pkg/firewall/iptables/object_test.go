package iptables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
)

var ctx = context.Background()

// mark is that of container c1 for its interfaces eth0, eth1, …, and otherwise of
// a container of that name.
func mark(name string) owner.Mark {
	if strings.HasPrefix(name, "eth") {
		return owner.Key{Network: "net", ContainerID: "c1", IfName: name}.Mark()
	}
	return owner.Key{Network: "net", ContainerID: name, IfName: "eth0"}.Mark()
}

// port publishes "8080 10.1.0.2:80", "192.0.2.1:8080 10.1.0.2:80" and the like.
func port(p nat.Protocol, host, target string) nat.Mapping {
	m := nat.Mapping{Protocol: p, Target: netip.MustParseAddrPort(target)}
	if end, err := netip.ParseAddrPort(host); err == nil {
		m.HostIP, m.HostPort = end.Addr(), end.Port()
	} else if _, err := fmt.Sscan(host, &m.HostPort); err != nil {
		panic(err)
	}
	return m
}

func publish(ifname string, ms ...nat.Mapping) nat.Publish {
	return nat.Publish{Mark: mark(ifname), Bridge: "br0", Mappings: ms, Source: nat.Hairpin, MarkBit: 13}
}

func resources() map[string]engine.Resource {
	dual := []nat.Mapping{
		port(nat.TCP, "8080", "10.1.0.2:80"),
		port(nat.UDP, "192.0.2.1:53", "10.1.0.2:53"),
		port(nat.SCTP, "9", "10.1.0.2:9"),
		port(nat.TCP, "8080", "[fd00::2]:80"),
		port(nat.SCTP, "[2001:db8::1]:9", "[fd00::2]:9"),
	}
	everything, nothing, chain, conditional, quoted := publish("eth0", dual...), publish("eth0", dual...),
		publish("eth0", dual...), publish("eth0", dual...), publish(`e"t\h'0#$`, dual...)
	everything.Source, everything.MarkBit = nat.All, 31
	nothing.Source = nat.Keep
	chain.SetMarkChain = "MARKER"
	conditional.ConditionsV4 = []string{"-s", "198.51.100.0/24,203.0.113.0/24", "!", "-i", "eth7", "-m", "comment", "--comment", `a "b" \ c`}
	conditional.ConditionsV6 = []string{"!", "-i", "eth7"}
	return map[string]engine.Resource{
		"hairpin":    Publish(publish("eth0", dual...)),
		"all":        Publish(everything),
		"keep":       Publish(nothing),
		"chain":      Publish(chain),
		"conditions": Publish(conditional),
		"odd name":   Publish(quoted),
		"v4":         Publish(publish("eth0", dual[:1]...)),
		"v6":         Publish(publish("eth0", dual[3:]...)),
		"masquerade": Masquerade(nat.Masquerade{Mark: mark("eth0"), Bridge: "br0", Addrs: []netip.Prefix{
			netip.MustParsePrefix("10.1.0.2/24"), netip.MustParsePrefix("fd00::2/64")}}),
	}
}

// save returns the nat tables of both families as their restorers read them.
func save(h *testnet.Host) [2]string {
	var tables [2]string
	for i, f := range families {
		for line := range strings.Lines(h.Run(f.command+"-save", "-t", "nat")) {
			if line[0] != '#' {
				tables[i] += counters.ReplaceAllString(line, "[0:0]")
			}
		}
	}
	return tables
}

func saved(h *testnet.Host) string { both := save(h); return both[0] + both[1] }

var counters = regexp.MustCompile(`\[\d+:\d+\]`)

func load(t *testing.T, f *family, text string) {
	t.Helper()
	cmd := exec.Command(f.restorer())
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, text)
	}
}

func observed(t *testing.T, r engine.Resource) engine.Diff {
	t.Helper()
	diff, err := r.Observe(ctx)
	if err != nil {
		t.Fatalf("observe %s: %v", r, err)
	}
	return diff
}

func applied(t *testing.T, rs ...engine.Resource) {
	t.Helper()
	for _, r := range rs {
		if err := r.Apply(ctx); err != nil {
			t.Fatalf("apply %s: %v", r, err)
		}
		if diff := observed(t, r); diff != engine.Same {
			t.Fatalf("after apply %s: %s", r, diff)
		}
	}
}

func TestEachRule(t *testing.T) {
	t.Parallel()
	for name, r := range resources() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := testnet.New(t)
			for _, f := range families {
				h.Run(f.command, "-t", "nat", "-N", "MARKER")
			}
			if diff := observed(t, r); diff != engine.Absent {
				t.Fatalf("before apply: %q", diff)
			}
			applied(t, r)
			made := save(h)
			if err := r.Apply(ctx); !errors.Is(err, engine.ErrExists) {
				t.Errorf("apply again: %v", err)
			}
			if now := save(h); now != made {
				t.Errorf("observe or apply again changed\n%s\nto\n%s", made, now)
			}
			vandalise(t, r, made)
			removed(t, h, r)
		})
	}
}

// vandalise deletes and alters each rule in turn, and then adds one that takes
// all packets.
func vandalise(t *testing.T, r engine.Resource, made [2]string) {
	t.Helper()
	target := regexp.MustCompile(` -j .*`)
	for i, f := range families {
		lines := strings.SplitAfter(made[i], "\n")
		for n, line := range lines {
			if !strings.HasPrefix(line, "-A") {
				continue
			}
			without := strings.Join(lines[:n], "") + "%s" + strings.Join(lines[n+1:], "")
			chain := strings.Fields(line)[1]
			for _, other := range []string{"", target.ReplaceAllString(line, " -j RETURN")} {
				load(t, f, strings.Replace(without, "%s", other, 1))
				if diff := observed(t, r); !strings.Contains(string(diff), chain) {
					t.Errorf("%q instead of %q: %q", other, line, diff)
				}
			}
			if strings.HasPrefix(chain, "DY-DN-") {
				load(t, f, strings.Replace(without, "%s", "-A "+chain+" -j RETURN\n"+line, 1))
				if diff := observed(t, r); !strings.Contains(string(diff), chain) {
					t.Errorf("one too many in %s: %q", chain, diff)
				}
			}
		}
		load(t, f, made[i])
	}
	if diff := observed(t, r); diff != engine.Same {
		t.Errorf("restored: %s", diff)
	}
}

func removed(t *testing.T, h *testnet.Host, r engine.Resource) {
	t.Helper()
	for range 2 {
		if err := r.Remove(ctx); err != nil {
			t.Fatalf("remove: %v", err)
		}
		if diff := observed(t, r); diff != engine.Absent {
			t.Errorf("after remove: %q", diff)
		}
	}
	left := saved(h)
	if strings.Contains(left, "net/c1/") || strings.Contains(left, "DY-DN") || strings.Contains(left, "DY-CO") {
		t.Errorf("left behind:\n%s", left)
	}
	applied(t, r)
	if err := r.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if again := saved(h); again != left {
		t.Errorf("the shared rules grew from\n%s\nto\n%s", left, again)
	}
}
