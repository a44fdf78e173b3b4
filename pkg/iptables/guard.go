package iptables

import (
	"context"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/state"
)

// Guard keeps what comes in by a link from the host's loopback addresses, which
// the kernel lets through where the link has route_localnet. It acts before
// connections are tracked: answers to a translated connection still bear the
// bridge's address there. The rule is the link's, and is left behind with it.
func Guard(link string) state.Resource { return guard{link} }

type guard struct{ link string }

const raw = "raw"

func (g guard) spec() []string {
	return []string{"-i", g.link, "-d", v4.loopback.String(), "-j", "DROP"}
}

func (g guard) Key() string { return "iptables guard " + g.link }

func (g guard) String() string {
	return "iptables -t " + raw + " " + rule{add, "PREROUTING", g.spec()}.String()
}

func (g guard) Observe(context.Context) (state.Diff, error) {
	there, err := g.there()
	if err != nil || there {
		return state.Same, err
	}
	return state.Absent, nil
}

// there lists, as the failure of a check may also be another one's.
func (g guard) there() (bool, error) {
	ipt, err := v4.open()
	if err != nil {
		return false, err
	}
	lines, err := ipt.List(raw, "PREROUTING")
	return slices.ContainsFunc(lines, func(line string) bool {
		r, ok := parse(line)
		return ok && r.value("-i") == g.link && r.value("-d") == v4.loopback.String() && r.value("-j") == "DROP"
	}), err
}

// Apply looks and adds under the package's lock, so that two callers at once
// leave one rule.
func (g guard) Apply(context.Context) error {
	held, err := lock()
	if err != nil {
		return err
	}
	defer release(held)
	there, err := g.there()
	if err != nil || there {
		return err
	}
	ipt, err := v4.open()
	if err != nil {
		return err
	}
	return ipt.Append(raw, "PREROUTING", g.spec()...)
}

func (g guard) Remove(context.Context) error {
	ipt, err := v4.open()
	if err != nil {
		return missing(err)
	}
	return missing(ipt.DeleteIfExists(raw, "PREROUTING", g.spec()...))
}
