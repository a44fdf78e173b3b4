package iptables

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// Scope finds by their marks the published ports of all attachments, if plugin
// is "portmap", or their masquerading, if it is "bridge"; each plugin finds what
// it made itself. No process is started on a host where Apply was never called
// since boot. It panics if plugin is neither.
func Scope(plugin string) engine.Scope {
	for _, k := range []*kind{published, masquerade} {
		if k.plugin == plugin {
			return scope{k}
		}
	}
	panic("iptables: no scope for " + plugin)
}

type scope struct{ *kind }

// Of looks for the chain of the attachment, which is there as long as an entry
// leads to it. Where it has none, Of must look through the shared chain.
func (s scope) Of(_ context.Context, m owner.Mark) ([]engine.Found, error) {
	return s.find(func(f *family) ([]owner.Mark, error) {
		if len(s.own) > 0 {
			if ok, err := f.exists(s.chains(m)...); !ok {
				return nil, err
			}
			return []owner.Mark{m}, nil
		}
		marks, err := marked(f, s.shared)
		return slices.DeleteFunc(marks, func(other owner.Mark) bool { return other != m }), err
	})
}

// All finds also the chains whose entry in the shared chain somebody deleted.
func (s scope) All(context.Context) ([]engine.Found, error) {
	return s.find(func(f *family) ([]owner.Mark, error) {
		marks, err := marked(f, s.shared)
		if err != nil || len(s.own) == 0 {
			return marks, err
		}
		orphans, err := s.orphans(f, marks)
		return append(marks, orphans...), err
	})
}

func (s scope) orphans(f *family, known []owner.Mark) ([]owner.Mark, error) {
	var names []string
	for _, m := range known {
		names = append(names, s.chains(m)...)
	}
	ipt, err := f.open()
	if err != nil {
		return nil, missing(err)
	}
	chains, err := ipt.ListChains(table)
	if err != nil {
		return nil, missing(err)
	}
	var orphans []owner.Mark
	for _, chain := range chains {
		ours := slices.ContainsFunc(s.own, func(prefix string) bool { return strings.HasPrefix(chain, prefix) })
		if !ours || slices.Contains(names, chain) {
			continue
		}
		marks, err := marked(f, chain)
		if err != nil {
			return nil, err
		}
		orphans = append(orphans, marks...)
	}
	return orphans, nil
}

// marked returns the marks in a chain.
func marked(f *family, chain string) ([]owner.Mark, error) {
	rules, err := f.list(chain)
	var marks []owner.Mark
	for _, r := range rules {
		if m := r.mark(); m.Valid() {
			marks = append(marks, m)
		}
	}
	return marks, err
}

// find makes one object of what each family has of a mark.
func (s scope) find(marks func(*family) ([]owner.Mark, error)) ([]engine.Found, error) {
	if ok, err := used(); !ok {
		return nil, err
	}
	objects := map[owner.Mark]*object{}
	var found []engine.Found
	for _, f := range families {
		ms, err := marks(f)
		if err != nil {
			return nil, fmt.Errorf("find %s rules: %w", f.command, err)
		}
		slices.Sort(ms)
		for _, m := range slices.Compact(ms) {
			if objects[m] == nil {
				objects[m] = &object{kind: s.kind, mark: m, text: fmt.Sprintf("iptables %s %s", s.what, m)}
				found = append(found, engine.Found{Mark: m, Resource: objects[m]})
			}
			objects[m].wants = append(objects[m].wants, want{family: f})
		}
	}
	return found, nil
}
