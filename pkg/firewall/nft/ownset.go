package nft

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// An ownSet is a set that a claim's chains look up. It is made and removed with
// the claim; what is in it after that is not the claim's, and stays when the claim
// is replaced.
type ownSet struct {
	set
	contents []element  // when it is made
	mark     owner.Mark // of these
}

func (s ownSet) ref() string { return "set:" + s.name }

// lines are the set and its contents in nft's words.
func (s ownSet) lines() []string {
	out := []string{fmt.Sprintf("nft add set inet %s %s", tableName, s.name)}
	var texts []string
	for _, e := range s.contents {
		texts = append(texts, fmt.Sprintf("%s comment %q", e.text, s.mark))
	}
	if texts != nil {
		out = append(out, fmt.Sprintf("nft add element inet %s %s { %s }", tableName, s.name, strings.Join(texts, ", ")))
	}
	return out
}

// add queues the set and its contents. Chains that look it up come after it.
func (s ownSet) add(nc *nftables.Conn, t *nftables.Table) error {
	if err := nc.AddSet(s.in(t), nil); err != nil {
		return err
	}
	return add(nc, t, s.contents, func(element) string { return string(s.mark) })
}

// deleteSets queues the removal of a claim's sets, after the chains that look them
// up.
func deleteSets(ctx context.Context, nc *nftables.Conn, t *nftables.Table, names []string) error {
	for _, name := range names {
		present, err := setExists(ctx, t, name)
		if err != nil {
			return err
		}
		if present {
			nc.DelSet(&nftables.Set{Table: t, Name: name})
		}
	}
	return nil
}

// withoutSets leaves out of what an index holds the sets that a claim keeps.
func (ix *index) withoutSets(keep []ownSet) *index {
	rest := *ix
	rest.refs = slices.DeleteFunc(slices.Clone(ix.refs), func(ref string) bool {
		return slices.ContainsFunc(keep, func(s ownSet) bool { return s.ref() == ref })
	})
	return &rest
}

// setExists reports whether table t has the set.
func setExists(ctx context.Context, t *nftables.Table, name string) (bool, error) {
	_, err := query(ctx, unix.NFT_MSG_GETSET, t, []netlink.Attribute{
		{Type: unix.NFTA_SET_TABLE, Data: text(t.Name)},
		{Type: unix.NFTA_SET_NAME, Data: text(name)},
	})
	return err == nil, absent(err)
}
