package nft

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// Runtimes ask every network of a container to publish the same ports. A host
// port leads to one of them: the first. The others stand by, with an entry in
// the index under (hash of container and port, 0), (…, 1), …, and when the first
// goes, the transaction that removes its element adds that of the next.

// maxStandby bounds the networks that wait for one port.
const maxStandby = 16

func standbyKey(m owner.Mark, ref string, n int) []byte {
	sum := sha256.Sum256([]byte("standby " + m.Container() + " " + ref))
	return indexKey(sum[:16], n)
}

// standbyOf is how the entries of an attachment begin.
func standbyOf(m owner.Mark) string { return "standby " + string(m) + " " }

// yield moves the elements that a sibling holds from what is claimed now to what
// is waited for.
func (c *claim) yield(ctx context.Context) error {
	found, err := getAll(ctx, inet(), c.elems)
	if err != nil {
		return err
	}
	var now []element
	for i, e := range c.elems {
		f := found[i]
		if e.object == "" || f == nil || f.comment == string(c.mark) || !c.mark.SameContainer(owner.Mark(f.comment)) {
			now = append(now, e)
			continue
		}
		if e.slot, err = freeSlot(ctx, c.mark, e); err != nil {
			return err
		}
		c.waits = append(c.waits, e)
	}
	c.elems = now
	return nil
}

func freeSlot(ctx context.Context, m owner.Mark, e element) (int, error) {
	for n := range maxStandby {
		f, err := get(ctx, inet(), owners, standbyKey(m, e.ref(), n))
		if err != nil || f == nil {
			return n, err
		}
	}
	return 0, fmt.Errorf("%s: %d networks of this container wait for it already, and no more may", e.object, maxStandby)
}

// standbys returns the index's entries for what is waited for.
func (c *claim) standbys() (out []element) {
	for _, e := range c.waits {
		value := hex.EncodeToString(e.value)
		if e.verdict != nil {
			value = "goto:" + e.verdict.Chain
		}
		out = append(out, element{set: owners, key: standbyKey(c.mark, e.ref(), e.slot), text: standbyOf(c.mark) + value})
	}
	return out
}

// promote queues, for each host port among the elements that go with the index, the
// element of the sibling that has waited for it.
func (ix *index) promote(ctx context.Context, nc *nftables.Conn, t *nftables.Table, gone []element) error {
	ports := slices.DeleteFunc(slices.Clone(gone), func(e element) bool {
		_, _, _, ok := hostPort(e.set.name, e.key)
		return !ok
	})
	waiting, err := ix.waiting(ctx, ports)
	if err != nil || len(waiting) == 0 {
		return err
	}
	for _, port := range ports {
		for n := range maxStandby {
			slot := element{set: owners, key: standbyKey(ix.mark, port.ref(), n)}
			done, err := ix.promoteTo(nc, t, port, slot, waiting[string(slot.key)])
			if err != nil {
				return err
			}
			if done {
				break
			}
		}
	}
	return nil
}

// waiting returns the comments of what may wait for the ports, by key. Of so many
// ports that there are more slots than the index is likely to have entries, it lists
// the index.
func (ix *index) waiting(ctx context.Context, ports []element) (map[string]string, error) {
	const many = 256
	waiting := map[string]string{}
	if len(ports) > many {
		all, err := reader().GetSetElements(owners.in(inet()))
		for _, e := range all {
			if strings.HasPrefix(e.Comment, "standby ") {
				waiting[string(e.Key)] = e.Comment
			}
		}
		return waiting, err
	}
	var slots []element
	for _, e := range ports {
		for n := range maxStandby {
			slots = append(slots, element{set: owners, key: standbyKey(ix.mark, e.ref(), n)})
		}
	}
	found, err := getAll(ctx, inet(), slots)
	for i, f := range found {
		if f != nil {
			waiting[string(slots[i].key)] = f.comment
		}
	}
	return waiting, err
}

// promoteTo gives the host port to who waits in the slot, if anybody does who does
// not go as well.
func (ix *index) promoteTo(nc *nftables.Conn, t *nftables.Table, port, slot element, comment string) (bool, error) {
	fields := strings.Fields(comment)
	if len(fields) != 3 || owner.Mark(fields[1]) == ix.mark {
		return false, nil
	}
	var err error
	if chain, ok := strings.CutPrefix(fields[2], "goto:"); ok {
		port.verdict = &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}
	} else if port.value, err = hex.DecodeString(fields[2]); err != nil {
		return false, err
	}
	if err := add(nc, t, []element{port}, func(element) string { return fields[1] }); err != nil {
		return false, err
	}
	return true, remove(nc, t, []element{slot})
}
