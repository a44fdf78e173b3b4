package nft

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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
func (c *claim) yield() error {
	var now []element
	for _, e := range c.elems {
		if e.object != "" {
			f, err := get(inet(), e.set, e.key)
			if err != nil {
				return err
			}
			if f != nil && f.comment != string(c.mark) && c.mark.SameContainer(owner.Mark(f.comment)) {
				if e.slot, err = freeSlot(c.mark, e); err != nil {
					return err
				}
				c.waits = append(c.waits, e)
				continue
			}
		}
		now = append(now, e)
	}
	c.elems = now
	return nil
}

func freeSlot(m owner.Mark, e element) (int, error) {
	for n := range maxStandby {
		f, err := get(inet(), owners, standbyKey(m, e.ref(), n))
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

// promote queues, for each host port that goes with the index, the element of
// the sibling that has waited for it.
func (ix *index) promote(nc *nftables.Conn, t *nftables.Table) error {
	for _, ref := range ix.refs {
		name, hexKey, _ := strings.Cut(ref, ":")
		e, present, err := ix.port(t, name, hexKey)
		if err != nil || !present {
			if err != nil {
				return err
			}
			continue
		}
		if err := ix.promoteTo(nc, t, e); err != nil {
			return err
		}
	}
	return nil
}

// port finds the host port that a ref names, if it is one and the index's own.
func (ix *index) port(t *nftables.Table, name, hexKey string) (element, bool, error) {
	key, err := hex.DecodeString(hexKey)
	if err != nil {
		return element{}, false, nil //nolint:nilerr // a chain
	}
	if _, _, _, ok := hostPort(name, key); !ok {
		return element{}, false, nil
	}
	return ix.element(t, name, hexKey)
}

func (ix *index) promoteTo(nc *nftables.Conn, t *nftables.Table, e element) error {
	for n := range maxStandby {
		key := standbyKey(ix.mark, e.ref(), n)
		f, err := get(t, owners, key)
		if err != nil {
			return err
		}
		if f == nil {
			continue
		}
		fields := strings.Fields(f.comment)
		if len(fields) != 3 || owner.Mark(fields[1]) == ix.mark {
			continue
		}
		if chain, ok := strings.CutPrefix(fields[2], "goto:"); ok {
			e.verdict = &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}
		} else if e.value, err = hex.DecodeString(fields[2]); err != nil {
			return err
		}
		if err := add(nc, t, []element{e}, func(element) string { return fields[1] }); err != nil {
			return err
		}
		return remove(nc, t, []element{{set: owners, key: bytes.Clone(key)}})
	}
	return nil
}
