// Package nft is the nftables backend: network policies, published ports and
// masquerading in one table, "inet dockyard", by netlink.
//
// The table has a constant number of rules (see testdata/skeleton.nft); all
// that grows is elements of sets and maps, each of which bears its owner's mark
// as a comment. A verb is one transaction. No process is started and nothing
// is listed on the way of ADD and DEL.
package nft

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

var (
	loopback  = netip.MustParsePrefix("127.0.0.0/8")
	loopback6 = netip.IPv6Loopback()
)

func inet() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

// Table returns the table with its constant rules. Every other resource of
// this package needs it.
func Table() engine.Resource { return table{} }

type table struct{}

func (table) Key() string    { return "nft table inet " + tableName }
func (table) String() string { return "nft -f skeleton.nft # table inet " + tableName }

// Observe compares the rules of all chains by the digest that each rule
// carries. There is a constant number of them, so one listing of the table is
// cheap enough for every ADD: what a flush took away is back with the next one.
func (table) Observe(ctx context.Context) (engine.Diff, error) {
	n, err := presentFormat(ctx)
	if err != nil || n == 0 {
		return engine.Absent, err
	}
	if n != format {
		return engine.Differ("format", n, format), nil
	}
	found, err := digests(inet())
	if err != nil {
		return engine.Same, err
	}
	for _, want := range skeleton() {
		if diff := want.compare(found[want.name]); diff != engine.Same {
			return diff, nil
		}
	}
	return engine.Same, nil
}

func (ch chain) compare(found [][]byte) engine.Diff {
	diff := engine.Differ("chain "+ch.name+": rules", len(found), len(ch.rules))
	for i := 0; i < len(found) && diff == engine.Same; i++ {
		if string(found[i]) != string(ch.digest(i)) {
			diff = engine.Diff(fmt.Sprintf("chain %s: rule %d was replaced", ch.name, i+1))
		}
	}
	return diff
}

func (ch chain) observe() (engine.Diff, error) {
	rules, err := reader().GetRules(inet(), &nftables.Chain{Name: ch.name, Table: inet()})
	if err != nil {
		return engine.Same, err
	}
	var found [][]byte
	for _, r := range rules {
		found = append(found, r.UserData)
	}
	return ch.compare(found), nil
}

// Apply makes the table, or puts its rules right, in one transaction that
// flushes first, so that two callers at once leave one set of rules.
func (t table) Apply(ctx context.Context) error {
	const tries = 10 // each fails as another process has built it meanwhile
	var err error
	for range tries {
		diff, observeErr := t.Observe(ctx)
		if observeErr != nil || diff == engine.Same {
			return observeErr
		}
		var present int
		if present, err = presentFormat(ctx); err == nil {
			err = build(ctx, present)
		}
		if !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return err
}

func (table) Remove(context.Context) error {
	c := writer()
	c.DelTable(inet())
	return absent(c.Flush())
}

// build makes the table, or puts its rules right, in one transaction. If the table
// is of an older format, that transaction also takes over what it holds.
func build(ctx context.Context, present int) error {
	if err := addTunnels(ctx, inet()); err != nil {
		return err
	}
	c := writer()
	t := c.AddTable(inet())
	if 0 < present && present < format {
		if err := dropOldChains(c, t); err != nil {
			return err
		}
	}
	if err := addSets(c, t, present > 0); err != nil {
		return err
	}
	addChains(c, t, skeleton())
	if 0 < present && present < format {
		if err := fillNewSets(c, t); err != nil {
			return err
		}
	}
	return c.Flush()
}

// addChains queues chains, whose rules replace those that are there.
func addChains(c *nftables.Conn, t *nftables.Table, chains []chain) {
	for _, ch := range chains {
		nc := &nftables.Chain{Name: ch.name, Table: t, Type: ch.kind, Hooknum: ch.hook}
		if ch.hook != nil {
			nc.Priority = nftables.ChainPriorityRef(ch.priority)
		}
		c.AddChain(nc)
		c.FlushChain(nc)
		for i, r := range ch.rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: nc, Exprs: r, UserData: ch.digest(i)})
		}
	}
}

// addSets queues those that are missing. Others stay as they are: sets that nft
// has restored from a listing differ in what is of no matter to rules.
func addSets(c *nftables.Conn, t *nftables.Table, present bool) error {
	var there []*nftables.Set
	if present {
		var err error
		if there, err = reader().GetSets(t); err != nil {
			return err
		}
	}
	for _, s := range allSets() {
		if slices.ContainsFunc(there, func(have *nftables.Set) bool { return have.Name == s.name }) {
			continue
		}
		if err := c.AddSet(s.in(t), nil); err != nil {
			return err
		}
	}
	return nil
}

// digest marks a rule with what it is. The kernel keeps it with the rule, so a
// rule that somebody replaced has another or none.
func (ch chain) digest(i int) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %s", ch.name, i, wire(ch.rules[i])))
	return userdata.AppendString(nil, userdata.TypeComment, hex.EncodeToString(sum[:4]))
}

// wire is the form of a rule in which the kernel gets it.
func wire(r exprs) (b []byte) {
	for _, e := range r {
		data, err := expr.Marshal(byte(nftables.TableFamilyINet), e)
		if err != nil { // no expression of the skeleton
			panic(err)
		}
		b = append(b, data...)
	}
	return b
}

func (s set) in(t *nftables.Table) *nftables.Set {
	out := &nftables.Set{Table: t, Name: s.name, KeyType: concat(s.key), Concatenation: len(s.key) > 1, Interval: s.ranged()}
	if len(s.key) == 1 && (s.key[0].Name == name.Name || s.key[0].Name == ifindex.Name) {
		out.KeyByteOrder = binaryutil.NativeEndian // so that nft lists it as text
	}
	if s.data != nil {
		out.IsMap, out.DataType = true, concat(s.data)
	}
	return out
}

func concat(types []nftables.SetDatatype) nftables.SetDatatype {
	if len(types) == 1 {
		return types[0]
	}
	return nftables.MustConcatSetType(types...)
}
