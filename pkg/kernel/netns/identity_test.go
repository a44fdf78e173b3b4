package netns_test

import (
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A link that is made anew is another, and so is that of a namespace that is made
// anew, though its inode and the link's index may be the same.
func TestF3Identity(t *testing.T) {
	h := testnet.New(t)
	seen := map[string]string{}
	id := func(what, link string) {
		t.Helper()
		got, err := netns.At(h.Path("c")).Identity(link)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := netns.At(h.Path("c")).Identity(link)
		if got != again {
			t.Errorf("%s: %s, then %s", what, got, again)
		}
		if other, twice := seen[got]; twice {
			t.Errorf("%s and %s are %s", what, other, got)
		}
		seen[got] = what
	}
	for range 5 {
		h.Container("c")
		id("no link", "eth0")
		id("lo", "lo")
		for range 2 {
			h.Run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "eth0", "netns", "c")
			id("eth0", "eth0")
			h.Run("ip", "link", "del", "v0")
		}
		h.DeleteContainer("c")
	}
}
