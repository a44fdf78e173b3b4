package iptables

import (
	"context"
	"fmt"

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
	ipt, err := v4.open()
	if err != nil {
		return state.Same, err
	}
	ok, err := ipt.Exists(raw, "PREROUTING", g.spec()...)
	if !ok && missing(err) == nil {
		return state.Absent, nil
	}
	return state.Same, err
}

// Apply looks and adds under the package's lock, so that two callers at once
// leave one rule.
func (g guard) Apply(context.Context) error {
	held, err := lock()
	if err != nil {
		return err
	}
	defer release(held)
	ipt, err := v4.open()
	if err != nil {
		return err
	}
	if err := ipt.AppendUnique(raw, "PREROUTING", g.spec()...); err != nil {
		return fmt.Errorf("guard %s: %w", g.link, err)
	}
	return nil
}

func (g guard) Remove(context.Context) error {
	ipt, err := v4.open()
	if err != nil {
		return missing(err)
	}
	return missing(ipt.DeleteIfExists(raw, "PREROUTING", g.spec()...))
}
