package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet/golden/plan"
	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
)

var planned = cni.Planned{New: newConfig, Scopes: scopes}

func TestPlan(t *testing.T) { plan.Test(t, planned) }

func TestPlanOfEachKey(t *testing.T) { plan.Keys(t, planned) }

func TestPlanOfExamples(t *testing.T) { plan.Examples(t, "tuning", planned) }

func FuzzPlan(f *testing.F) { plan.FuzzChained(f, planned) }

// The list's lines are searched for in the key as it is written; without a file
// everything is allowed, with an empty one nothing.
func TestAllowlist(t *testing.T) {
	const arp, ports = "net.ipv4.conf.IFNAME.arp_filter", "net/ipv4/ip_local_port_range"
	for _, c := range []struct{ list, want string }{
		{"none", ""},
		{"", arp + " " + ports},
		{"\n  \n", arp + " " + ports},
		{"^net.ipv4.conf.IFNAME.[a-z_]*$\n", ports},
		{"arp_filter\n  ^net/ipv4/ip_local_port_range$  ", ""},
		{"^net.ipv4.conf.eth0", arp + " " + ports},
		{"(", "missing closing"},
	} {
		file := filepath.Join(t.TempDir(), "allowlist.conf")
		if c.list != "none" {
			if err := os.WriteFile(file, []byte(c.list), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cfg, rep := newConfig().(*config), &conf.Report{}
		for _, key := range []string{arp, ports} {
			cfg.addSysctl("sysctl", key, "1", "eth0", rep)
		}
		err := cfg.judgeAllowed(file, rep)
		text := strings.Join(rep.Problems(), "; ")
		for _, word := range strings.Fields(c.want) {
			if !strings.Contains(text, word) {
				t.Errorf("%q: %q, want %s refused", c.list, text, word)
			}
		}
		if err != nil || c.want == "" && text != "" || strings.Contains(text, arp) && !strings.Contains(c.want, arp) && c.want != "missing closing" {
			t.Errorf("%q: %q, %v, want %q refused", c.list, text, err, c.want)
		}
	}
}
