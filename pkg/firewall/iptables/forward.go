package iptables

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// ForwardAccept lets a bridge's traffic through the FORWARD chain, in front of
// all that is there, but after the administrator's own chain, which may drop or
// accept first. The rules are the bridge's, and are left behind with it.
func ForwardAccept(bridge, admin string) engine.Resource { return forward{bridge, admin} }

type forward struct{ bridge, admin string }

const (
	filter       = "filter"
	forwardChain = "DY-FORWARD"
)

func (f forward) Key() string { return "iptables forward " + f.bridge }

func (f forward) String() string {
	var text []string
	for _, r := range f.rules() {
		text = append(text, "iptables "+r.String())
	}
	return strings.Join(text, " ; ") + " # and ip6tables"
}

// rules are in the order in which they are made.
func (f forward) rules() []rule {
	return []rule{
		{insert, forwardChain, []string{"-j", f.admin}},
		{add, forwardChain, []string{"-i", f.bridge, "-j", "ACCEPT"}},
		{add, forwardChain, []string{"-o", f.bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED,DNAT", "-j", "ACCEPT"}},
		{insert, "FORWARD", []string{"-j", forwardChain}},
	}
}

// Observe names the first rule that is missing.
func (f forward) Observe(ctx context.Context) (engine.Diff, error) {
	for _, fam := range present() {
		missing, err := f.missing(ctx, fam)
		if err != nil {
			return engine.Same, err
		}
		if len(missing) > 0 {
			return engine.Diff(fmt.Sprintf("%s chain %s: want %s", fam.command, missing[0].chain, missing[0])), nil
		}
	}
	return engine.Same, nil
}

// present returns the families that the kernel has.
func present() []*family {
	return slices.DeleteFunc(slices.Clone(families), func(f *family) bool {
		_, err := os.Stat(f.proc)
		return err != nil
	})
}

// missing asks for all at once, and one by one only where that fails.
func (f forward) missing(ctx context.Context, fam *family) (out []rule, err error) {
	var lines []string
	for _, r := range f.rules() {
		lines = append(lines, r.to(check).String())
	}
	if fam.restoreTable(ctx, filter, nil, lines) == nil {
		return nil, nil
	}
	ipt, err := fam.open()
	if err != nil {
		return nil, err
	}
	for _, r := range f.rules() {
		// An error is that of a chain that is missing.
		if ok, _ := ipt.Exists(filter, r.chain, r.spec...); !ok {
			out = append(out, r)
		}
	}
	return out, nil
}

// Apply looks and adds under the package's lock, so that two callers at once
// leave one set of rules.
func (f forward) Apply(ctx context.Context) error {
	held, err := lock(ctx)
	if err != nil {
		return err
	}
	defer release(held)
	for _, fam := range present() {
		missing, err := f.missing(ctx, fam)
		if err == nil && len(missing) > 0 {
			err = f.make(fam, missing)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// make adds what is missing. The bridge's own rules come together or not at all,
// so that they are always in one order.
func (f forward) make(fam *family, missing []rule) error {
	ipt, err := fam.open()
	for _, chain := range []string{f.admin, forwardChain} {
		var ok bool
		if err == nil {
			ok, err = ipt.ChainExists(filter, chain)
		}
		if err == nil && !ok {
			err = ipt.NewChain(filter, chain)
		}
	}
	appends := func(r rule) bool { return r.op == add }
	if slices.ContainsFunc(missing, appends) {
		missing = slices.DeleteFunc(missing, appends)
		for _, r := range slices.DeleteFunc(f.rules(), func(r rule) bool { return !appends(r) }) {
			if err == nil {
				err = ipt.DeleteIfExists(filter, r.chain, r.spec...)
			}
			if err == nil {
				err = ipt.Append(filter, r.chain, r.spec...)
			}
		}
	}
	for _, r := range missing {
		if err == nil {
			err = ipt.Insert(filter, r.chain, 1, r.spec...)
		}
	}
	return err
}

// Remove has no caller on the way of DEL: the rules are the bridge's. The
// chains stay, as others use them.
func (f forward) Remove(context.Context) error {
	for _, fam := range present() {
		ipt, err := fam.open()
		if err != nil {
			return missing(err)
		}
		for _, r := range f.rules()[1:3] {
			if err := ipt.DeleteIfExists(filter, r.chain, r.spec...); err != nil && missing(err) != nil {
				return err
			}
		}
	}
	return nil
}
