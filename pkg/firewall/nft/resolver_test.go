package nft_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// Part A, small: whether the resolver's table is in a container is found out without its
// rules, of which the container's root may have made any number.
func TestSmallFilledTable(t *testing.T) {
	h := testnet.New(t)
	h.Container("c1")
	r := nft.Resolver{NS: netns.At(h.Path("c1"))}
	if there, err := r.Exists(); err != nil || there {
		t.Errorf("%t, %v before there is a table", there, err)
	}
	rules := filepath.Join(t.TempDir(), "rules")
	text := "table inet dockyard-dns {\nchain output {\n" + strings.Repeat("counter\n", 20_000) + "}\n}\n"
	if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Run("nsenter", "--net="+h.Path("c1"), "nft", "-f", rules)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	there, err := r.Exists()
	runtime.ReadMemStats(&after)
	if err != nil || !there {
		t.Errorf("%t, %v with a table", there, err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("asking for the table took %d bytes", took)
	}
	if err := r.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if there, err := r.Exists(); err != nil || there {
		t.Errorf("%t, %v after Remove", there, err)
	}
}
