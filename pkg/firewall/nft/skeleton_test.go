package nft

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/integration/testnet/golden"
	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// The constant rules as nft(8) shows them, for people who look at a host. What
// nft shows it also reads, as those who save and restore a ruleset need.
func TestSkeleton(t *testing.T) {
	h := testnet.New(t)
	if err := Table().Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	listing := h.Run("nft", "list", "table", "inet", tableName)
	golden.File(t, "testdata/skeleton.nft", listing)

	path := filepath.Join(h.Dir(), "listing.nft")
	if err := os.WriteFile(path, []byte("flush ruleset\n"+listing), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Try("nft", "-c", "-f", path); err != nil {
		t.Error("nft does not read its own listing:", err)
	}
}

// A second Apply changes nothing.
func TestSkeletonOnce(t *testing.T) {
	h := testnet.New(t)
	var listings []string
	for range 2 {
		if err := Table().Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		listings = append(listings, h.Run("nft", "-a", "list", "table", "inet", tableName))
	}
	if diff, err := Table().Observe(t.Context()); diff != engine.Same || err != nil {
		t.Error(diff, err)
	}
	if listings[0] != listings[1] {
		t.Errorf("the second Apply changed\n%s\nto\n%s", listings[0], listings[1])
	}
}

// Rules do not become more with what is attached.
func TestSkeletonIsConstant(t *testing.T) {
	h := testnet.New(t)
	for _, br := range []string{"br0", "br1"} {
		h.Run("ip", "link", "add", br, "type", "bridge")
	}
	steps := []engine.Resource{
		Table(),
		Policy{Bridge: "br0", V4: NAT, V6: Routed}.Resource(),
		Policy{Bridge: "br1", Internal: true, ICC: true}.Resource(),
		Hairpin("br0"),
	}
	var before int
	for i, s := range steps {
		if err := s.Apply(t.Context()); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		rules := strings.Count(h.Run("nft", "-a", "-s", "list", "table", "inet", tableName), "# handle")
		// Sets, chains and rules have handles in the listing, elements have none.
		if i == 0 {
			before = rules
		} else if rules != before {
			t.Errorf("after %s: %d objects, want %d", s, rules, before)
		}
	}
}
