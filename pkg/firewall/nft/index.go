package nft

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// An index is what the kernel holds of one claim.
type index struct {
	kind    string
	mark    owner.Mark
	witness string
	refs    []string // "ports4:06…" or "chain:c_…"
	keys    [][]byte // of the index's own entries
	joined  bool     // by a second plugin: see join.go
}

// readIndex returns nil if there is no such claim.
func (c claim) readIndex(ctx context.Context) (*index, error) {
	var ix *index
	hash := c.hash()
	for n, more := 0, 1; ; more *= 2 { // most claims have a few entries, one with many ports thousands
		var entries []element
		for i := range more {
			entries = append(entries, element{set: owners, key: indexKey(hash, n+i)})
		}
		all, err := getAll(ctx, tableOf(c.kind), entries)
		if err != nil {
			return nil, err
		}
		for i, f := range all {
			if f == nil {
				return ix, nil
			}
			if n == 0 {
				ix = &index{}
			}
			ix.add(n, entries[i].key, f.comment)
			n++
		}
	}
}

func (ix *index) add(n int, key []byte, comment string) {
	ix.keys = append(ix.keys, key)
	fields := strings.Fields(comment)
	if n > 0 {
		ix.refs = append(ix.refs, fields...)
		ix.joined = ix.joined || strings.HasPrefix(comment, joinedPrefix)
		return
	}
	fields = append(fields, "", "", "")
	ix.kind, ix.mark, ix.witness = fields[0], owner.Mark(fields[1]), fields[2]
}

// own counts the elements and chains that are not the index's.
func (ix *index) own() int {
	n := 0
	for _, r := range ix.refs {
		if !strings.HasPrefix(r, owners.name+":") {
			n++
		}
	}
	return n
}

// dead reports whether the link with which the claim's reason ends is gone. A
// claim without such a link is never known to be dead.
func (ix *index) dead() (bool, error) {
	if ix.witness == "" {
		return false, nil
	}
	return gone(ix.witness)
}

// gone reports whether the kernel says that there is no such link. That it cannot
// be asked proves nothing.
func gone(name string) (bool, error) {
	_, l, err := link.Find(netns.Host(), name)
	return err == nil && l == nil, err
}

// present returns the elements that the index names and that are still the claim's.
func (ix *index) present(ctx context.Context) (elems []element, err error) {
	var named []element
	for _, ref := range ix.refs {
		name, hexKey, _ := strings.Cut(ref, ":")
		if name == "chain" || name == "set" {
			continue
		}
		s, known := setNamed(name)
		if !known {
			s = set{name: name} // of another version: its name and the key are what removal takes
		}
		key, keyErr := hex.DecodeString(hexKey)
		if keyErr != nil {
			return nil, fmt.Errorf("index of %s: %q is no element", ix.mark, ref)
		}
		named = append(named, element{set: s, key: key})
	}
	all, err := getAll(ctx, tableOf(ix.kind), named)
	for i, f := range all {
		if f != nil && (f.comment == string(ix.mark) || strings.HasPrefix(f.comment, standbyOf(ix.mark))) {
			elems = append(elems, named[i])
		}
	}
	return elems, err
}

// delete queues the removal of the elements that are present, of the index's own
// entries and of the claim's chains: one that is missing would make the kernel
// refuse them all.
func (ix *index) delete(ctx context.Context, nc *nftables.Conn, t *nftables.Table, present []element) error {
	for _, key := range ix.keys {
		present = append(present, element{set: owners, key: key})
	}
	if err := remove(nc, t, present); err != nil {
		return err
	}
	var chains, sets []string
	for _, ref := range ix.refs {
		if name, ok := strings.CutPrefix(ref, "chain:"); ok {
			chains = append(chains, name)
		}
		if name, ok := strings.CutPrefix(ref, "set:"); ok {
			sets = append(sets, name)
		}
	}
	if err := deleteChains(ctx, nc, t, chains); err != nil {
		return err
	}
	return deleteSets(ctx, nc, t, sets)
}

// deleteChains queues the removal of a claim's chains, after the elements that
// lead to them.
func deleteChains(ctx context.Context, nc *nftables.Conn, t *nftables.Table, names []string) error {
	for _, name := range names {
		present, err := chainExists(ctx, t, name)
		if err != nil {
			return err
		}
		if present {
			ch := &nftables.Chain{Name: name, Table: t}
			nc.FlushChain(ch)
			nc.DelChain(ch)
		}
	}
	return nil
}

// Scope finds the claims of one kind: "portmap" or "bridge".
func Scope(kind string) engine.Scope { return scope(kind) }

type scope string

// Of costs one lookup where the attachment has no claim.
func (s scope) Of(ctx context.Context, m owner.Mark) ([]engine.Found, error) {
	c := claim{kind: string(s), mark: m}
	ix, err := c.readIndex(ctx)
	if err != nil || ix == nil {
		return nil, err
	}
	return []engine.Found{{Mark: m, Resource: c.resource()}}, nil
}

func (s scope) All(ctx context.Context) ([]engine.Found, error) {
	nc := writer()
	elems, err := nc.GetSetElements(owners.in(tableOf(string(s))))
	if err != nil {
		if present, perr := setExists(ctx, tableOf(string(s)), owners.name); perr == nil && !present {
			return nil, nil // no table: nothing is claimed
		}
		return nil, err
	}
	var out []engine.Found
	for _, e := range elems {
		ix := &index{}
		ix.add(0, e.Key, e.Comment)
		c := claim{kind: ix.kind, mark: ix.mark}
		if ix.kind == string(s) && ix.mark.Valid() && slices.Equal(indexKey(c.hash(), 0), e.Key) {
			out = append(out, engine.Found{Mark: ix.mark, Resource: c.resource()})
		}
	}
	return out, nil
}

// resource is the claim as what removes it.
func (c claim) resource() engine.Resource {
	if c.kind == "portmap" {
		return published{claim: c}
	}
	return c
}
