package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
)

// An object is all that one attachment owns of one kind.
type object struct {
	kind  *kind
	mark  owner.Mark
	text  string
	wants []want // by family; of an object found by its mark, families alone
}

func (o *object) Key() string    { return fmt.Sprintf("iptables %s %s", o.kind.what, o.mark) }
func (o *object) String() string { return o.text }

// Apply makes the rules of one family at once, and of the second after those of
// the first.
func (o *object) Apply(ctx context.Context) error {
	held, err := lock(ctx)
	if err != nil {
		return err
	}
	defer release(held)
	if err := o.free(""); err != nil {
		return err
	}
	for _, w := range o.wants {
		lines := w.lines()
		if w.restore(ctx, held, lines) == nil {
			continue
		}
		// The shared rules are there but for the first time on a host, and
		// where somebody has flushed the table.
		if err := w.share(o.kind.shared, w.shared); err != nil {
			return fmt.Errorf("make chain %s: %w", o.kind.shared, err)
		}
		if err := w.restore(ctx, held, lines); err != nil {
			return err
		}
	}
	return o.flush()
}

// flush forgets the connections to the published ends of what was made.
func (o *object) flush() error {
	var ends []nat.Mapping
	for _, w := range o.wants {
		ends = append(ends, w.claims...)
	}
	return nat.FlushConntrack(ends)
}

// free looks, under the lock, whether the object can be made, beside rules of the mark
// beside.
func (o *object) free(beside owner.Mark) error {
	var taken error
	for _, w := range o.wants {
		entries, err := w.list(o.kind.shared)
		if err != nil {
			return err
		}
		claims := map[string][]nat.Mapping{} // by host port
		for _, m := range w.claims {
			port := fmt.Sprint(m.HostPort)
			claims[port] = append(claims[port], m)
		}
		for _, e := range entries {
			if beside != "" && e.mark() == beside {
				continue
			}
			if e.mark() == o.mark {
				return fmt.Errorf("chain %s: %w", o.kind.shared, engine.ErrExists)
			}
			for _, m := range claims[e.value("--dport")] {
				if taken == nil && e.takes(m) && !e.mark().SameContainer(o.mark) {
					taken = &engine.HeldError{Object: "host port " + m.Host(), Holder: string(e.mark())}
				}
			}
		}
	}
	return taken
}

// lines makes what w wants, if the shared rules are there.
func (w want) lines() []string {
	lines := w.checks(w.shared)
	for _, c := range w.chains {
		lines = append(lines, "-N "+c)
	}
	for _, r := range w.rules {
		lines = append(lines, r.String())
	}
	return lines
}

func (w want) checks(rules []rule) (lines []string) {
	for _, r := range rules {
		lines = append(lines, r.to(check).String())
	}
	return lines
}

// Observe names the first rule that is missing and what is found in its chain.
// Rules are compared by iptables, which knows when two spellings are one.
func (o *object) Observe(ctx context.Context) (engine.Diff, error) {
	var diffs []engine.Diff
	for _, w := range o.wants {
		diff, err := o.observe(ctx, w)
		if err != nil {
			return engine.Same, err
		}
		diffs = append(diffs, diff)
	}
	for i, diff := range diffs {
		if diff == engine.Absent && slices.ContainsFunc(diffs, func(d engine.Diff) bool { return d != diff }) {
			return o.lacking(o.wants[i], nil) // one family of two
		}
	}
	return engine.First(diffs...), nil
}

func (o *object) observe(ctx context.Context, w want) (engine.Diff, error) {
	wanted := count(w.rules)
	joined, err := o.joined(w.family)
	if err != nil {
		return engine.Same, err
	}
	var extra engine.Diff
	found := 0
	listed := map[string]bool{}
	for _, chain := range append([]string{o.kind.shared}, w.chains...) {
		rules, inErr := o.in(w.family, chain)
		if inErr != nil {
			return engine.Same, inErr
		}
		found += len(rules)
		for _, r := range rules {
			listed[r.canonical()] = true
		}
		// A condition with a list of addresses becomes several rules.
		if len(rules) > wanted[chain] && !joined && !strings.HasPrefix(chain, published.own[1]) {
			extra = engine.First(extra, engine.Diff(fmt.Sprintf("chain %s: found %s, want %d rules", chain, rules, wanted[chain])))
		}
	}
	if found == 0 {
		return engine.Absent, nil
	}
	// iptables looks through a chain for each rule that it is asked for, so it is
	// asked only for those that it lists in another spelling.
	asked := slices.DeleteFunc(slices.Clone(w.rules), func(r rule) bool { return listed[r.canonical()] })
	err = w.restore(ctx, nil, w.checks(slices.Concat(w.shared, asked)))
	if err == nil {
		return extra, nil
	}
	return o.lacking(w, err)
}

// lacking says which rule the failure of the check of all of them is about.
func (o *object) lacking(w want, failure error) (engine.Diff, error) {
	ipt, err := w.open()
	if err != nil {
		return engine.Same, err
	}
	for _, r := range slices.Concat(w.shared, w.rules) {
		// An error is that of a chain that is missing as well.
		if ok, _ := ipt.Exists(table, r.chain, r.spec...); !ok {
			found, err := o.in(w.family, r.chain)
			return engine.Diff(fmt.Sprintf("chain %s: found %s, want %s", r.chain, found, r)), err
		}
	}
	return engine.Same, failure
}

// in returns the rules of this attachment in a chain: all of a chain of its own.
func (o *object) in(f *family, chain string) ([]rule, error) {
	rules, err := f.list(chain)
	if !slices.Contains(o.kind.chains(o.mark), chain) {
		rules = slices.DeleteFunc(rules, func(r rule) bool { return r.mark() != o.mark })
	}
	return rules, err
}

func count(rules []rule) map[string]int {
	n := map[string]int{}
	for _, r := range rules {
		n[r.chain]++
	}
	return n
}

// Remove needs the mark alone.
func (o *object) Remove(ctx context.Context) error {
	if ok, err := used(); !ok {
		return err
	}
	held, err := lock(ctx)
	if err != nil {
		return err
	}
	defer release(held)
	var errs []error
	var ends []nat.Mapping
	for _, w := range o.wants {
		entries, err := o.in(w.family, o.kind.shared)
		var lines []string
		if err == nil {
			lines, err = o.removal(w.family, entries)
		}
		if err == nil && len(lines) > 0 {
			err = w.restore(ctx, held, lines)
		}
		errs = append(errs, err)
		for _, e := range entries {
			if m, ok := e.mapping(w.family); ok {
				ends = append(ends, m)
			}
		}
	}
	return errors.Join(append(errs, nat.FlushConntrack(ends))...)
}

// removal returns the lines that remove what is there of the object in f, where
// entries are its rules in the shared chain.
func (o *object) removal(f *family, entries []rule) ([]string, error) {
	chains := o.kind.chains(o.mark)
	if len(entries) == 0 {
		if ok, err := f.exists(chains...); !ok {
			return nil, err
		}
	}
	var lines, last []string
	for _, c := range chains {
		// Makes the chain or empties it, so that it can be deleted at the end
		// whether it was there or not.
		lines = append(lines, ":"+c+" - [0:0]")
		last = append(last, "-X "+c)
	}
	for _, e := range entries {
		lines = append(lines, e.to(remove).String())
	}
	return append(lines, last...), nil
}
