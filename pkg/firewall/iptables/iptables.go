// Package iptables carries out address translation by iptables(8), where it is
// asked for or nf_tables is missing. It means the same as package nft.
//
// Chains are read and the shared ones made by go-iptables. What one attachment
// owns is made, checked and removed by one iptables-restore a family, which the
// kernel takes as a whole or not at all. iptables itself does not know whose a
// host port is, so this package looks first, under a lock of its own.
//
// Left behind are only the shared chains DY-HOSTPORT and DY-MASQ, the jumps to
// them and one rule for each mark bit in use. This package sets no sysctl: for
// 127.0.0.1 to work, the bridge needs route_localnet.
package iptables

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
)

// A kind is what one plugin owns here. Each of its rules bears the owner mark
// as a comment, and leaves the shared chain into chains named after the mark.
type kind struct {
	plugin, what string
	shared       string   // the chain with the first rules of every attachment
	own          []string // prefixes of an attachment's chains, the first always there
}

var (
	published  = &kind{"portmap", "publish", "DY-HOSTPORT", []string{"DY-DN-", "DY-CO-", "DY-JN-"}}
	masquerade = &kind{"bridge", "masquerade", "DY-MASQ", nil}
)

// chains returns the names of the chains of one attachment: at most the 28
// bytes that iptables allows.
func (k *kind) chains(m owner.Mark) []string {
	names := make([]string, len(k.own))
	for i, prefix := range k.own {
		names[i] = prefix + m.Hash()[:20]
	}
	return names
}

// Publish returns the published ports of one attachment, of both families. Apply
// returns a *engine.HeldError if another attachment holds one of them, where a
// port of every address and the same port of one address exclude each other, as
// they do in bind(2).
func Publish(p nat.Publish) engine.Resource {
	o := &object{kind: published, mark: p.Mark, text: publishText(p)}
	for _, f := range families {
		if w := publishRules(f, p); len(w.rules) > 0 {
			o.wants = append(o.wants, w)
		}
	}
	return publishedObject{o}
}

// Masquerade returns the masquerading of one attachment, of both families.
func Masquerade(m nat.Masquerade) engine.Resource {
	o := &object{kind: masquerade, mark: m.Mark, text: masqueradeText(m)}
	for _, f := range families {
		if w := masqueradeRules(f, m); len(w.rules) > 0 {
			o.wants = append(o.wants, w)
		}
	}
	return o
}

// Usable says why iptables cannot be used for the families that the kernel has,
// nil if it can. It changes nothing.
func Usable() error {
	for _, f := range families {
		if _, err := os.Stat(f.proc); err != nil {
			continue
		}
		if _, err := exec.LookPath(f.restorer()); err != nil {
			return fmt.Errorf("find %s: %w", f.restorer(), err)
		}
		ipt, err := f.open()
		if err != nil {
			return fmt.Errorf("find %s: %w", f.command, err)
		}
		if _, err := ipt.List(table, "POSTROUTING"); err != nil {
			return fmt.Errorf("list %s nat table: %w", f.command, err)
		}
	}
	return nil
}

func publishText(p nat.Publish) string {
	var text []string
	for _, f := range families {
		for _, m := range f.mappings(p) {
			spec := append(f.hostEnd(m), f.conditions(p)...)
			spec = append(spec, "-j", "DNAT", "--to-destination", m.Target.String())
			text = append(text, f.command+" -t nat "+rule{add, published.shared, spec}.String())
		}
	}
	via := map[nat.Source]string{
		nat.Keep:    "source kept",
		nat.Hairpin: "source of " + p.Bridge + " and loopback masqueraded",
		nat.All:     "every source masqueraded",
	}[p.Source]
	return strings.Join(text, "; ") + " # " + via
}

func masqueradeText(m nat.Masquerade) string {
	var text []string
	for _, f := range families {
		for _, addr := range f.addrs(m) {
			spec := slices.Concat(f.leaving(m, addr), []string{"-j"}, hide)
			text = append(text, f.command+" -t nat "+rule{add, masquerade.shared, spec}.String())
		}
	}
	return strings.Join(text, "; ")
}
