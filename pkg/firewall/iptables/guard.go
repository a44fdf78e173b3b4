package iptables

import (
	"context"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// Guard keeps what comes in by a link from the host's loopback addresses, and from
// using them as source, which the kernel lets through where the link has
// route_localnet. It acts before connections are tracked: answers to a translated
// connection still bear the bridge's address there. The rules are the link's, and
// are left behind with it.
func Guard(link string) engine.Resource { return guard{link} }

type guard struct{ link string }

const raw = "raw"

func (g guard) rules() []rule {
	return []rule{g.drop("-d"), g.drop("-s")}
}

func (g guard) drop(end string) rule {
	return rule{add, "PREROUTING", []string{"-i", g.link, end, v4.loopback.String(), "-j", "DROP"}}
}

func (g guard) Key() string { return "iptables guard " + g.link }

func (g guard) String() string {
	var text []string
	for _, r := range g.rules() {
		text = append(text, "iptables -t "+raw+" "+r.String())
	}
	return strings.Join(text, " ; ")
}

func (g guard) Observe(context.Context) (engine.Diff, error) {
	present, err := g.present()
	if err != nil {
		return engine.Same, err
	}
	for _, n := range present {
		if n == 0 {
			return engine.Absent, nil
		}
	}
	return engine.Same, nil
}

// present returns how often each of the rules is there. It lists, as the failure
// of a check may also be another one's.
func (g guard) present() ([]int, error) {
	ipt, err := v4.open()
	if err != nil {
		return nil, err
	}
	lines, err := ipt.List(raw, "PREROUTING")
	present := make([]int, len(g.rules()))
	for _, line := range lines {
		r, ok := parse(line)
		for i, want := range g.rules() {
			if end := want.spec[2]; ok && r.value("-i") == g.link && r.value(end) == want.value(end) && r.value("-j") == "DROP" {
				present[i]++
			}
		}
	}
	return present, err
}

// Apply looks and adds under the package's lock, so that two callers at once
// leave one rule each. It looks again afterwards: iptables succeeds also when its
// listing did not get through.
func (g guard) Apply(ctx context.Context) error {
	held, err := lock(ctx)
	if err != nil {
		return err
	}
	defer release(held)
	present, err := g.present()
	if err != nil || !slices.ContainsFunc(present, func(n int) bool { return n != 1 }) {
		return err
	}
	ipt, err := v4.open()
	for i, r := range g.rules() {
		if err == nil && present[i] != 1 {
			err = ipt.Append(raw, r.chain, r.spec...)
		}
	}
	if err == nil {
		present, err = g.present()
	}
	for i, r := range g.rules() {
		for ; err == nil && present[i] > 1; present[i]-- {
			err = ipt.Delete(raw, r.chain, r.spec...)
		}
	}
	return err
}

func (g guard) Remove(context.Context) error {
	ipt, err := v4.open()
	for _, r := range g.rules() {
		if err == nil {
			err = ipt.DeleteIfExists(raw, r.chain, r.spec...)
		}
	}
	return missing(err)
}
