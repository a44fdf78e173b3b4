package nft

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// An element is one element of one set, as a claim wants it.
type element struct {
	set     set
	key     []byte
	links   []string      // whose indexes the key is, which resolved asks the host for
	end     []byte        // of a range: its last key
	value   []byte        // of a map
	verdict *expr.Verdict // of a verdict map
	text    string        // key, and value if any, in nft's words
	object  string        // of a host port, what a person calls it: "host port tcp 8080"
	slot    int           // of a host port that is waited for
}

// A claim is all elements that one attachment (or one bridge) has in the table,
// made and removed in one transaction together with their entries in the index.
//
// The index is the set "owners": under (hash of kind and mark, 0) it holds the
// mark, under (hash, 1), (hash, 2), … the sets and keys of the elements, in
// comments. So DEL finds what ADD made with a few lookups, whatever else the
// table holds, and index and elements can never part: the kernel applies both
// or neither.
type claim struct {
	kind    string // "portmap": claims of different kinds are independent
	mark    owner.Mark
	witness string // the host link with which the claim's reason to be dies
	shared  bool   // replaced when different, instead of refused
	elems   []element
	chains  []chain   // of the claim's own
	sets    []ownSet  // that these look up
	entries int       // that the index has already: see join.go
	waits   []element // those of elems' kind that wait for a sibling to go: see standby.go
}

func (c claim) Key() string { return fmt.Sprintf("nft %s %s", c.kind, c.mark) }

func (c claim) String() string {
	if len(c.elems) == 0 && len(c.chains) == 0 {
		return fmt.Sprintf("nft list table %s %s # nothing of %s", familyOfKind(c.kind), tableName, c.mark)
	}
	var lines []string
	for _, s := range c.sets {
		lines = append(lines, s.lines()...)
	}
	for _, ch := range c.chains {
		lines = append(lines, fmt.Sprintf("nft add chain inet %s %s", tableName, ch.name))
		for _, text := range ch.texts {
			lines = append(lines, fmt.Sprintf("nft add rule inet %s %s %s", tableName, ch.name, text))
		}
	}
	for _, e := range c.elems {
		lines = append(lines, fmt.Sprintf("nft add element %s %s %s { %s comment %q }", familyOfKind(c.kind), tableName, e.set.name, e.text, c.mark))
	}
	return strings.Join(lines, " ; ")
}

// Observe compares the index with what is wanted, and each element's value and
// owner.
func (c claim) Observe(ctx context.Context) (engine.Diff, error) {
	var err error
	if c.elems, err = resolved(c.elems); errors.Is(err, errNoLink) {
		return engine.Diff(err.Error()), nil
	} else if err != nil {
		return engine.Same, err
	}
	index, err := c.readIndex(ctx)
	if err != nil {
		return engine.Same, err
	}
	if index == nil {
		if len(c.elems) == 0 {
			return engine.Same, nil
		}
		return engine.Absent, nil
	}
	c = c.named(index)
	found, err := getAll(ctx, tableOf(c.kind), c.elems)
	if err != nil {
		return engine.Same, err
	}
	held := index.held()
	for i, e := range c.elems {
		if !held[e.ref()] {
			return engine.Diff(fmt.Sprintf("element %s { %s } is not there", e.set.name, e.text)), nil
		}
		if diff := c.observe(e, found[i]); diff != engine.Same {
			return diff, nil
		}
	}
	if extra := index.own() - len(c.elems) - len(c.chains) - len(c.sets); extra != 0 && !index.joined {
		return engine.Diff(fmt.Sprintf("%d elements, want %d", len(c.elems)+extra, len(c.elems))), nil
	}
	return c.observeChains()
}

// observe compares an element with what the kernel has under its key.
func (c claim) observe(e element, f *found) engine.Diff {
	switch {
	case f == nil:
		return engine.Diff(fmt.Sprintf("element %s { %s } is not there", e.set.name, e.text))
	case e.object != "" && c.mark.SameContainer(owner.Mark(f.comment)) && f.comment != string(c.mark):
		return engine.Same // a sibling has it, and this claim waits
	case f.comment != string(c.mark):
		return engine.Diff(fmt.Sprintf("element %s { %s } is held by %q", e.set.name, e.text, f.comment))
	case !e.sameValue(f):
		return engine.Diff(fmt.Sprintf("element %s { %s } leads elsewhere", e.set.name, e.text))
	}
	return engine.Same
}

func (c claim) observeChains() (engine.Diff, error) {
	for _, ch := range c.chains {
		diff, err := ch.observe()
		if err != nil || diff != engine.Same {
			return diff, err
		}
	}
	return engine.Same, nil
}

// Apply makes the claim. A host port that another attachment holds is refused
// by the kernel, as the key of a map element has one value; the error names
// the holder. If the holder's link is gone, so is the holder: its claim is
// released and the port taken over.
func (c claim) Apply(ctx context.Context) error {
	const tries = 100 // each loses to another process that got further
	var err error
	for range tries {
		if err = c.try(ctx); !errors.Is(err, errAgain) {
			return err
		}
	}
	return err
}

// resolved returns the elements with the keys that are indexes of links.
func resolved(elems []element) ([]element, error) {
	elems = slices.Clone(elems)
	indexes := map[string][]byte{}
	for i, e := range elems {
		var key []byte
		for _, name := range e.links {
			if indexes[name] == nil {
				_, l, err := link.Find(netns.Host(), name)
				if err != nil {
					return nil, err
				}
				if l == nil {
					return nil, fmt.Errorf("link %s: %w", name, errNoLink)
				}
				indexes[name] = binaryutil.NativeEndian.PutUint32(uint32(l.Attrs().Index))
			}
			key = append(key, indexes[name]...)
		}
		if key != nil {
			elems[i].key = key
		}
	}
	return elems, nil
}

var errNoLink = errors.New("no such link")

// errAgain is wrapped where another process was first, or made room.
var errAgain = errors.New("try again")

func (c claim) try(ctx context.Context) error {
	index, err := c.readIndex(ctx)
	if err != nil {
		return err
	}
	if c.elems, err = resolved(c.elems); err != nil {
		return err
	}
	if c.shared {
		diff, observeErr := c.Observe(ctx)
		if observeErr != nil || diff == engine.Same {
			return observeErr
		}
	} else if index != nil {
		return engine.ErrExists
	}
	if c.shared && index == nil {
		if err = sweep(ctx); err != nil {
			return err
		}
	}
	err = c.commit(ctx, index)
	switch {
	case errors.Is(err, unix.EEXIST), errors.Is(err, unix.EBUSY):
		return c.evict(ctx, err)
	case c.shared && errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: another process replaced it: %w", errAgain, err)
	}
	return err
}

// evict releases a dead claim that holds what c wants, which can then be tried
// again; it fails with a HeldError if the holder is alive, with cause if there
// is no holder.
func (c claim) evict(ctx context.Context, cause error) error {
	found, err := getAll(ctx, tableOf(c.kind), c.elems)
	if err != nil {
		return err
	}
	for i, e := range c.elems {
		f := found[i]
		if f == nil || f.comment == string(c.mark) {
			continue
		}
		if err := c.evictHolder(ctx, owner.Mark(f.comment), cmp.Or(e.object, e.text)); err != nil {
			return err
		}
		return errAgain
	}
	return cause
}

// commit replaces what old holds by what c wants.
func (c claim) commit(ctx context.Context, old *index) error {
	nc := writer()
	t := tableOf(c.kind)
	if old != nil {
		present, err := old.present(ctx)
		if err != nil {
			return err
		}
		if err := old.withoutSets(c.sets).delete(ctx, nc, t, present); err != nil {
			return err
		}
	}
	for _, s := range c.sets {
		if err := s.add(nc, t); err != nil {
			return err
		}
	}
	for _, ch := range c.chains {
		nch := nc.AddChain(&nftables.Chain{Name: ch.name, Table: t})
		for i, r := range ch.rules {
			nc.AddRule(&nftables.Rule{Table: t, Chain: nch, Exprs: r, UserData: ch.digest(i)})
		}
	}
	if len(c.refs()) == 0 {
		return absent(nc.Flush())
	}
	if err := add(nc, t, c.elems, func(element) string { return string(c.mark) }); err != nil {
		return err
	}
	if err := add(nc, t, c.standbys(), func(e element) string { return e.text }); err != nil {
		return err
	}
	if err := add(nc, t, c.indexElements(), func(e element) string { return e.text }); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // from here on the kernel takes its time
		return err
	}
	return nc.Flush()
}

// Remove deletes what the index says, and nothing that has another owner by now.
func (c claim) Remove(ctx context.Context) error {
	index, err := c.readIndex(ctx)
	if err != nil || index == nil {
		return err
	}
	present, err := index.present(ctx)
	if err != nil {
		return err
	}
	nc := writer()
	if err := index.delete(ctx, nc, tableOf(c.kind), present); err != nil {
		return err
	}
	if err := index.promote(ctx, nc, inet(), present); err != nil {
		return err
	}
	return absent(nc.Flush())
}

// hash is the first part of the claim's keys in the index.
func (c claim) hash() []byte {
	sum := sha256.Sum256([]byte(c.kind + " " + string(c.mark)))
	return sum[:16]
}

func indexKey(hash []byte, n int) []byte {
	return append(slices.Clone(hash), binaryutil.NativeEndian.PutUint32(uint32(n))...)
}

// commentLimit is what fits into an element's user data (NFT_USERDATA_MAXLEN is
// 256) with a type, a length and a final zero.
const commentLimit = 250

func (c claim) indexElements() []element {
	if c.entries > 0 {
		joined := c.indexOf(c.entries, c.refs())
		for i := range joined {
			joined[i].text = joinedPrefix + joined[i].text
		}
		return joined
	}
	return append(c.head(), c.indexOf(1, c.refs())...)
}

// head is the claim's first entry.
func (c claim) head() []element {
	text := strings.TrimSpace(c.kind + " " + string(c.mark) + " " + c.witness)
	return []element{{set: owners, key: indexKey(c.hash(), 0), text: text}}
}

// indexOf returns the entries for refs, of which the first is the claim's nth.
func (c claim) indexOf(n int, refs []string) (out []element) {
	line := ""
	flush := func() {
		out = append(out, element{set: owners, key: indexKey(c.hash(), n+len(out)), text: line})
		line = ""
	}
	for _, r := range refs {
		if len(line)+1+len(r) > commentLimit {
			flush()
		}
		line = strings.TrimSpace(line + " " + r)
	}
	flush()
	return out
}

func (c claim) refs() []string {
	var refs []string
	for _, e := range slices.Concat(c.elems, c.waits, c.standbys()) {
		refs = append(refs, e.ref())
	}
	for _, ch := range c.chains {
		refs = append(refs, "chain:"+ch.name)
	}
	for _, s := range c.sets {
		refs = append(refs, s.ref())
	}
	return refs
}

// ref names an element in the index.
func (e element) ref() string { return e.set.name + ":" + hex.EncodeToString(e.key) }
