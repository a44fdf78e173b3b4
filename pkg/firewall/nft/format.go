package nft

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// format is the number of the table's form: its rules, its sets, and what both
// mean. A release that changes any of them raises it (TestFormat). A table of an
// older format is taken over; one of a newer format is not touched, so that two
// versions beside each other, as during an upgrade, never take turns at it.
//
// The table carries the number as the priority of its chain "guard", of which it
// is the distance from that of the format before it was numbered. So it is also
// the kernel that refuses an older version, whatever that version knows: one
// chain has one priority.
const format = 2

// guardPriority is that of the chain that carries the format.
func guardPriority() nftables.ChainPriority { return *nftables.ChainPriorityRaw + 1 - format }

// presentFormat returns the format of the table that is there, 0 if there is
// none, and an error that says what to do if it is a newer one.
func presentFormat(ctx context.Context) (int, error) {
	answer, err := query(ctx, unix.NFT_MSG_GETCHAIN, inet(), chainAttrs(inet(), chainGuard))
	if err != nil {
		return 0, absent(err)
	}
	hook, err := attribute(answer, unix.NFTA_CHAIN_HOOK)
	if err != nil {
		return 0, err
	}
	priority, err := attribute(hook, unix.NFTA_HOOK_PRIORITY)
	if err != nil {
		return 0, err
	}
	n := int(*nftables.ChainPriorityRaw) + 1 - int(int32(binary.BigEndian.Uint32(priority)))
	if n > format {
		return n, fmt.Errorf("table inet %s is that of a newer version of Dockyard (format %d, and this version knows %d): "+
			"install the newer version again; or, to go back to this one, drain the host, and then: nft delete table inet %s", tableName, n, format, tableName)
	}
	return n, nil
}

// dropOldChains queues the removal of what cannot be changed in place: the chain
// that carries the format, and the marks of versions before there was one.
func dropOldChains(c *nftables.Conn, t *nftables.Table) error {
	chains, err := reader().ListChainsOfTableFamily(t.Family)
	if err != nil {
		return err
	}
	for _, ch := range chains {
		if ch.Table.Name == t.Name && (ch.Name == chainGuard || strings.HasPrefix(ch.Name, "version_")) {
			old := &nftables.Chain{Name: ch.Name, Table: t}
			c.FlushChain(old)
			c.DelChain(old)
		}
	}
	return nil
}

// fillNewSets queues the elements that claims of an older format lack, and their
// entries in the index: those of sources, for each link that a policy is about.
func fillNewSets(c *nftables.Conn, t *nftables.Table) error {
	claims, err := allIndexes(t)
	if err != nil {
		return err
	}
	for _, ix := range claims {
		more := claim{kind: ix.kind, mark: ix.mark, witness: ix.witness}
		for _, name := range ix.policed() {
			elems, err := sourcesOf(name)
			if err != nil {
				return err
			}
			more.elems = append(more.elems, elems...)
		}
		more.elems = slices.DeleteFunc(more.elems, func(e element) bool { return slices.Contains(ix.refs, e.ref()) })
		if len(more.elems) == 0 {
			continue
		}
		if err := add(c, t, more.elems, func(element) string { return string(ix.mark) }); err != nil {
			return err
		}
		// That the first entry can be removed proves that the claim is still there.
		head := more.head()
		if err := remove(c, t, head); err != nil {
			return err
		}
		index := append(head, more.indexOf(len(ix.keys), more.refs())...)
		if err := add(c, t, index, func(e element) string { return e.text }); err != nil {
			return err
		}
	}
	return nil
}

// allIndexes lists the index.
func allIndexes(t *nftables.Table) ([]*index, error) {
	elems, err := reader().GetSetElements(owners.in(t))
	if err != nil {
		return nil, err
	}
	comments := map[string]string{}
	for _, e := range elems {
		comments[string(e.Key)] = e.Comment
	}
	var out []*index
	for _, e := range elems {
		ix := &index{}
		ix.add(0, e.Key, e.Comment)
		hash := claim{kind: ix.kind, mark: ix.mark}.hash()
		if string(indexKey(hash, 0)) != string(e.Key) {
			continue // not the first entry of a claim
		}
		for n := 1; ; n++ {
			key := indexKey(hash, n)
			comment, ok := comments[string(key)]
			if !ok {
				break
			}
			ix.add(n, key, comment)
		}
		out = append(out, ix)
	}
	return out, nil
}

// policed returns the links that the claim of a policy is about.
func (ix *index) policed() (names []string) {
	for _, ref := range ix.refs {
		name, rest, _ := strings.Cut(ref, ":")
		key, err := hex.DecodeString(rest)
		if err == nil && name == to.name && len(key) > 4 {
			names = append(names, unix.ByteSliceToString(key[4:]))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// sourcesOf returns the sources of a link on this host, none if it is gone.
func sourcesOf(name string) ([]element, error) {
	h, l, err := link.Find(netns.Host(), name)
	if err != nil || l == nil {
		return nil, err
	}
	below := ""
	if l.Type() == "vlan" {
		bridge, err := h.LinkByIndex(l.Attrs().ParentIndex)
		if err != nil {
			return nil, err
		}
		below = bridge.Attrs().Name
	}
	return resolved(sources(name, below))
}
