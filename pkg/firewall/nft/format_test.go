package nft

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables/expr"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// The rules and sets of a format never change, as versions with different ones
// would each put the other's "right" for ever. So who changes them raises format,
// unless it is that of no release yet, and then writes the new sum here.
func TestFormat(t *testing.T) {
	const sum = "2 a1a27dd7286cdd66"
	h := sha256.New()
	for _, s := range allSets() {
		fmt.Fprintln(h, s.name, s.key, s.data)
	}
	for _, ch := range skeleton() {
		fmt.Fprintln(h, ch.name, ch.kind, ch.priority)
		for i := range ch.rules {
			h.Write(ch.digest(i))
		}
	}
	if got := fmt.Sprint(format, " ", hex.EncodeToString(h.Sum(nil))[:16]); got != sum {
		t.Errorf("rules or sets have changed: found %q, want %q; raise the format, or, if no release has it yet, write the new sum here", got, sum)
	}
}

// A table of an older format is taken over in one transaction: no element goes,
// and what is new in this format is filled in from the index.
func TestFormerFormat(t *testing.T) {
	h := testnet.New(t)
	h.Run("ip", "link", "add", "br0", "type", "bridge")
	h.Run("nft", "-f", filepath.Join(testnet.Root(), "pkg/firewall/nft/testdata/format-1.nft"))
	policy := Policy{Bridge: "br0", V4: NAT, V6: NAT, ICC: true}
	former := policy.claim("policy")
	former.elems = slices.DeleteFunc(former.elems, func(e element) bool { return e.links != nil })
	if err := former.commit(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	gone := policy
	gone.Bridge = "br1" // a bridge that somebody has deleted
	former = gone.claim("policy")
	former.elems = slices.DeleteFunc(former.elems, func(e element) bool { return e.links != nil })
	if err := former.commit(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	h.Run("nft", "add", "element", "inet", "dockyard", "masq4", `{ 10.1.0.2 comment "n/c/eth0" }`)
	if diff, err := Table().Observe(t.Context()); diff != "format 1, want 2" || err != nil {
		t.Errorf("before: %q, %v", diff, err)
	}
	for range 2 {
		if err := Table().Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []engine.Resource{Table(), policy.Resource()} {
		if diff, err := r.Observe(t.Context()); diff != engine.Same || err != nil {
			t.Errorf("%s: %q, %v", r, diff, err)
		}
	}
	listing := h.Run("nft", "list", "table", "inet", tableName)
	for _, want := range []string{`10.1.0.2 comment "n/c/eth0"`, `ipv4 . "br1"`} {
		if !strings.Contains(listing, want) {
			t.Errorf("%s is gone:\n%s", want, listing)
		}
	}
	if strings.Contains(listing, "chain version_") {
		t.Errorf("the mark of the former format is still there:\n%s", listing)
	}
	if err := policy.Resource().Remove(t.Context()); err != nil {
		t.Error(err)
	}
	if listing := h.Run("nft", "list", "set", "inet", tableName, "isolated"); strings.Contains(listing, "elements") {
		t.Errorf("what was filled in is not in the index: %s", listing)
	}
}

// A newer table is left alone, and the error says what to do.
func TestNewerFormat(t *testing.T) {
	h := testnet.New(t)
	if err := Table().Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.Run("nft", "delete chain inet dockyard guard; add chain inet dockyard guard { type filter hook prerouting priority raw - 2 ; }")
	h.Run("nft", "flush", "chain", "inet", "dockyard", "forward")
	before := h.Run("nft", "-a", "list", "table", "inet", tableName)
	const want = "is that of a newer version of Dockyard (format 3, and this version knows 2): install the newer version again"
	if err := Table().Apply(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Apply: %v, want %q", err, want)
	}
	if diff, err := Usable().Observe(t.Context()); err != nil || !strings.Contains(string(diff), want) {
		t.Errorf("STATUS: %q, %v, want %q", diff, err, want)
	}
	if after := h.Run("nft", "-a", "list", "table", "inet", tableName); after != before {
		t.Errorf("the table has changed:\n%s\nto\n%s", before, after)
	}
}

// Versions that know of no format are refused by the kernel.
func TestVersionWithoutFormat(t *testing.T) {
	h := testnet.New(t)
	if err := Table().Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := h.Run("nft", "-a", "list", "table", "inet", tableName)
	if out, err := h.Try("nft", "-f", filepath.Join(testnet.Root(), "pkg/firewall/nft/testdata/format-1.nft")); err == nil {
		t.Errorf("the former rules were taken: %s", out)
	}
	if after := h.Run("nft", "-a", "list", "table", "inet", tableName); after != before {
		t.Errorf("the table has changed:\n%s\nto\n%s", before, after)
	}
}

// D2: that a link cannot be looked for does not make it gone.
func TestD2CannotLookIsNotGone(t *testing.T) {
	h := testnet.New(t)
	if err := Table().Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	noName := strings.Repeat("n", 200) // longer than any name of a link
	if dead, err := (&index{witness: noName}).dead(); dead || err == nil {
		t.Errorf("found %v, %v, want an error", dead, err)
	}
	if dead, err := (&index{witness: "veth0"}).dead(); !dead || err != nil {
		t.Errorf("a link that is not there: found %v, %v", dead, err)
	}
	kept := claim{kind: "bridge", mark: shared(noName, "policy"), shared: true, elems: []element{pair("br8", "br9", expr.VerdictDrop, "")}}
	if err := kept.commit(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := sweep(t.Context()); err == nil {
		t.Error("nobody was told")
	}
	if listing := h.Run("nft", "list", "map", "inet", tableName, "pairs"); !strings.Contains(listing, "br9") {
		t.Errorf("the policy is gone: %s", listing)
	}
}
