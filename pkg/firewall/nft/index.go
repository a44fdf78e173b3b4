package nft

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/google/nftables"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// An index is what the kernel holds of one claim.
type index struct {
	kind    string
	mark    owner.Mark
	witness string
	refs    []string // "ports4:06…" or "chain:c_…"
	keys    [][]byte // of the index's own entries
}

// readIndex returns nil if there is no such claim.
func (c claim) readIndex() (*index, error) {
	var ix *index
	for n := 0; ; n++ {
		key := indexKey(c.hash(), n)
		f, err := get(inet(), owners, key)
		if err != nil || f == nil {
			return ix, err
		}
		if n == 0 {
			ix = &index{}
		}
		ix.add(n, key, f.comment)
	}
}

func (ix *index) add(n int, key []byte, comment string) {
	ix.keys = append(ix.keys, key)
	fields := strings.Fields(comment)
	if n > 0 {
		ix.refs = append(ix.refs, fields...)
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

func (ix *index) holds(ref string) bool { return slices.Contains(ix.refs, ref) }

// dead reports whether the link with which the claim's reason ends is gone. A
// claim without such a link is never known to be dead.
func (ix *index) dead() bool {
	if ix.witness == "" {
		return false
	}
	_, err := net.InterfaceByName(ix.witness)
	return err != nil
}

// delete queues the removal of all that the index names and that is still the
// claim's: one element that is missing would make the kernel refuse them all.
func (ix *index) delete(nc *nftables.Conn, t *nftables.Table) error {
	var elems []element
	var chains []string
	for _, ref := range ix.refs {
		name, rest, _ := strings.Cut(ref, ":")
		if name == "chain" {
			chains = append(chains, rest)
			continue
		}
		e, present, err := ix.element(t, name, rest)
		if err != nil {
			return err
		}
		if present {
			elems = append(elems, e)
		}
	}
	for _, key := range ix.keys {
		elems = append(elems, element{set: owners, key: key})
	}
	if err := remove(nc, t, elems); err != nil {
		return err
	}
	return deleteChains(nc, t, chains)
}

// element finds what a ref names, and whether it is there and the claim's.
func (ix *index) element(t *nftables.Table, name, hexKey string) (e element, present bool, err error) {
	i := slices.IndexFunc(allSets(), func(s set) bool { return s.name == name })
	key, err := hex.DecodeString(hexKey)
	if i < 0 || err != nil {
		return e, false, fmt.Errorf("index of %s: %q is no element of this version", ix.mark, name+":"+hexKey)
	}
	e = element{set: allSets()[i], key: key}
	f, err := get(t, e.set, key)
	return e, f != nil && (f.comment == string(ix.mark) || strings.HasPrefix(f.comment, standbyOf(ix.mark))), err
}

// deleteChains queues the removal of a claim's chains, after the elements that
// lead to them.
func deleteChains(nc *nftables.Conn, t *nftables.Table, names []string) error {
	for _, name := range names {
		present, err := chainExists(t, name)
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
func (s scope) Of(_ context.Context, m owner.Mark) ([]engine.Found, error) {
	c := claim{kind: string(s), mark: m}
	ix, err := c.readIndex()
	if err != nil || ix == nil {
		return nil, err
	}
	return []engine.Found{{Mark: m, Resource: c.resource()}}, nil
}

func (s scope) All(context.Context) ([]engine.Found, error) {
	nc := writer()
	elems, err := nc.GetSetElements(owners.in(inet()))
	if err != nil {
		if present, perr := chainExists(inet(), version()); perr == nil && !present {
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
