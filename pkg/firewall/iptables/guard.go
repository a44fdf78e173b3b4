package iptables

import (
	"context"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// Guard keeps what comes in by a link from the host's loopback addresses, which
// the kernel lets through where the link has route_localnet. It acts before
// connections are tracked: answers to a translated connection still bear the
// bridge's address there. The rule is the link's, and is left behind with it.
func Guard(link string) engine.Resource { return guard{link} }

type guard struct{ link string }

const raw = "raw"

func (g guard) spec() []string {
	return []string{"-i", g.link, "-d", v4.loopback.String(), "-j", "DROP"}
}

func (g guard) Key() string { return "iptables guard " + g.link }

func (g guard) String() string {
	return "iptables -t " + raw + " " + rule{add, "PREROUTING", g.spec()}.String()
}

func (g guard) Observe(context.Context) (engine.Diff, error) {
	n, err := g.count()
	if err != nil || n > 0 {
		return engine.Same, err
	}
	return engine.Absent, nil
}

// count lists, as the failure of a check may also be another one's.
func (g guard) count() (n int, err error) {
	ipt, err := v4.open()
	if err != nil {
		return 0, err
	}
	lines, err := ipt.List(raw, "PREROUTING")
	for _, line := range lines {
		r, ok := parse(line)
		if ok && r.value("-i") == g.link && r.value("-d") == v4.loopback.String() && r.value("-j") == "DROP" {
			n++
		}
	}
	return n, err
}

// Apply looks and adds under the package's lock, so that two callers at once
// leave one rule. It looks again afterwards: iptables succeeds also when its
// listing did not get through.
func (g guard) Apply(ctx context.Context) error {
	held, err := lock(ctx)
	if err != nil {
		return err
	}
	defer release(held)
	n, err := g.count()
	if err != nil || n == 1 {
		return err
	}
	ipt, err := v4.open()
	if err == nil {
		err = ipt.Append(raw, "PREROUTING", g.spec()...)
	}
	if err == nil {
		n, err = g.count()
	}
	for ; err == nil && n > 1; n-- {
		err = ipt.Delete(raw, "PREROUTING", g.spec()...)
	}
	return err
}

func (g guard) Remove(context.Context) error {
	ipt, err := v4.open()
	if err != nil {
		return missing(err)
	}
	return missing(ipt.DeleteIfExists(raw, "PREROUTING", g.spec()...))
}
