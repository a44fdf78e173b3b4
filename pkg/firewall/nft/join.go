package nft

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// Where portmap stands twice in a list, the second adds its ports to the claim that
// the first has made. What it adds has entries of its own in the index, behind those
// that are there, which begin with joinedPrefix; so DEL, of any version, finds all.
const joinedPrefix = " "

// Join implements engine.Joiner.
func (p published) Join(ctx context.Context) error {
	return p.locked(ctx, p.mappings, func() error {
		if err := p.refuseOverlap(ctx); err != nil {
			return err
		}
		const tries = 100 // as Apply
		err := errAgain
		for n := 0; n < tries && errors.Is(err, errAgain); n++ {
			err = p.join(ctx)
		}
		return err
	})
}

func (c claim) join(ctx context.Context) error {
	ix, err := c.readIndex(ctx)
	if err != nil {
		return err
	}
	if ix == nil {
		return fmt.Errorf("%w, and was removed meanwhile", engine.ErrExists)
	}
	c, err = c.beside(ctx, ix)
	if err != nil || len(c.elems) == 0 {
		return err
	}
	if err = c.yield(ctx); err != nil {
		return err
	}
	if err = c.commit(ctx, nil); errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) {
		return c.evict(ctx, err)
	}
	return err
}

// beside returns what of the claim is not in the index yet. What is there must be the
// same.
func (c claim) beside(ctx context.Context, ix *index) (claim, error) {
	c = c.named(ix)
	held := ix.held()
	for _, ch := range slices.Clone(c.chains) {
		if !held["chain:"+ch.name] {
			continue
		}
		diff, err := ch.observe()
		if err != nil {
			return c, err
		}
		if diff != engine.Same {
			c = c.rename(ch, ch.joinedName())
		}
	}
	found, err := getAll(ctx, inet(), c.elems)
	if err != nil {
		return c, err
	}
	out := c
	out.entries, out.elems, out.chains = len(ix.keys), nil, nil
	for i, e := range c.elems {
		f := found[i]
		switch {
		case !held[e.ref()]:
			out.elems = append(out.elems, e)
		case f != nil && f.comment == string(c.mark) && !e.sameValue(f):
			return c, fmt.Errorf("element %s { %s } leads elsewhere: an earlier plugin of the list has published the same port otherwise; take it out of one of them", e.set.name, e.text)
		}
	}
	for _, ch := range c.chains {
		if !held["chain:"+ch.name] {
			out.chains = append(out.chains, ch)
		}
	}
	return out, nil
}

func (ix *index) held() map[string]bool {
	held := map[string]bool{}
	for _, ref := range ix.refs {
		held[ref] = true
	}
	return held
}

// joinedName is that of a chain where the first plugin has one with other rules.
func (ch chain) joinedName() string {
	h := sha256.New()
	for _, r := range ch.rules {
		h.Write(wire(r))
	}
	return ch.name[:15] + "_" + hex.EncodeToString(h.Sum(nil))[:12]
}

// named returns the claim with those of its chains renamed that the index has under
// the other name.
func (c claim) named(ix *index) claim {
	if !ix.joined {
		return c
	}
	held := ix.held()
	for _, ch := range slices.Clone(c.chains) {
		if name := ch.joinedName(); held["chain:"+name] {
			c = c.rename(ch, name)
		}
	}
	return c
}

// rename returns the claim with another name for a chain.
func (c claim) rename(ch chain, name string) claim {
	c.chains, c.elems = slices.Clone(c.chains), slices.Clone(c.elems)
	for i := range c.chains {
		if c.chains[i].name == ch.name {
			c.chains[i].name = name
		}
	}
	for i, e := range c.elems {
		if e.verdict != nil && e.verdict.Chain == ch.name {
			v := *e.verdict
			v.Chain = name
			c.elems[i].verdict = &v
		}
	}
	return c
}
