package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// publishedObject is an object of published ports, to which a second plugin in the
// list may add its own. An empty chain says that one did.
type publishedObject struct{ *object }

const joinedChain = 2 // of published.own

func (o *object) joined(f *family) (bool, error) {
	if len(o.kind.own) <= joinedChain {
		return false, nil
	}
	return f.exists(o.kind.chains(o.mark)[joinedChain])
}

// Join implements engine.Joiner.
func (o publishedObject) Join(ctx context.Context) error {
	held, err := lock(ctx)
	if err != nil {
		return err
	}
	defer release(held)
	if err := o.free(o.mark); err != nil {
		return err
	}
	for _, w := range o.wants {
		lines, err := o.beside(w)
		if err != nil {
			return err
		}
		if len(lines) == 0 {
			continue
		}
		if err := w.share(o.kind.shared, w.shared); err != nil {
			return fmt.Errorf("make chain %s: %w", o.kind.shared, err)
		}
		if err := w.restore(ctx, held, lines); err != nil {
			return err
		}
	}
	return o.flush()
}

// beside returns the lines that make what is missing of w.
func (o publishedObject) beside(w want) ([]string, error) {
	listed := map[string]bool{}
	chains := o.kind.chains(o.mark)
	counts := map[string]int{}
	for _, chain := range append([]string{o.kind.shared}, chains...) {
		rules, err := o.in(w.family, chain)
		if err != nil {
			return nil, err
		}
		counts[chain] = len(rules)
		for _, r := range rules {
			listed[r.canonical()] = true
		}
	}
	missing := slices.DeleteFunc(slices.Clone(w.rules), func(r rule) bool { return listed[r.canonical()] })
	if len(missing) == 0 {
		return nil, nil
	}
	gate := chains[1]
	first := counts[chains[0]] > 0
	if first && (slices.Contains(w.chains, gate) != (counts[gate] > 0) || slices.ContainsFunc(missing, func(r rule) bool { return r.chain == gate })) {
		return nil, errors.New("portmap stands twice in the list with different conditions, which iptables cannot tell apart; give both the same, or use \"backend\": \"nftables\"")
	}
	if err := o.otherwise(missing, listed); err != nil {
		return nil, err
	}
	var lines []string
	for _, c := range append(slices.Clone(w.chains), chains[joinedChain]) {
		if exists, err := w.exists(c); err != nil {
			return nil, err
		} else if !exists {
			lines = append(lines, "-N "+c)
		}
	}
	for _, r := range missing {
		if r.chain == chains[0] && r.value("-j") != "DNAT" {
			r = r.to(insert) // before what translates, as nothing comes after that
		}
		lines = append(lines, r.String())
	}
	return lines, nil
}

// otherwise fails if a missing translation is of a host port that is published already.
func (o publishedObject) otherwise(missing []rule, listed map[string]bool) error {
	for _, r := range missing {
		if r.value("-j") != "DNAT" {
			continue
		}
		spec := slices.Clone(r.spec[:slices.Index(r.spec, "-m")])
		for _, target := range o.kind.chains(o.mark)[:joinedChain] {
			if listed[owned(o.mark, o.kind.shared, spec, target).canonical()] {
				return fmt.Errorf("rule %s: an earlier plugin of the list has published the same port otherwise; take it out of one of them", r)
			}
		}
	}
	return nil
}

var _ engine.Joiner = publishedObject{}
