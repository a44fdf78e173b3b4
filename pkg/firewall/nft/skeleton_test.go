package nft

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// The version chain names the rules, so tables of different versions of the
// suite can be told apart; a second Apply changes nothing.
func TestSkeletonOnce(t *testing.T) {
	h := testnet.New(t)
	for range 2 {
		if err := Table().Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if diff, err := Table().Observe(t.Context()); diff != engine.Same || err != nil {
		t.Error(diff, err)
	}
	versions := regexp.MustCompile(`chain version_\S+`).FindAllString(h.Run("nft", "list", "table", "inet", tableName), -1)
	if !slices.Equal(versions, []string{"chain " + version()}) {
		t.Errorf("found %q, want one %s", versions, version())
	}
}

// Rules do not become more with what is attached.
func TestSkeletonIsConstant(t *testing.T) {
	h := testnet.New(t)
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
