package nft

import (
	"strings"
	"sync"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// D3: sixteen ADDs at once leave the rules of one.
func TestD3AtOnce(t *testing.T) {
	h := testnet.New(t)
	h.Run("iptables", "-P", "FORWARD", "DROP")
	h.Run("ip6tables", "-P", "FORWARD", "DROP")
	for range 5 { // who is not lucky passes without a lock, too
		h.Run("iptables", "-F", "FORWARD")
		h.Run("ip6tables", "-F", "FORWARD")
		begin := make(chan struct{})
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				h.Do(func() {
					<-begin
					if err := ForwardAccept("br0").Apply(t.Context()); err != nil {
						t.Error(err)
					}
				})
			})
		}
		close(begin)
		wg.Wait()
		for _, command := range []string{"iptables", "ip6tables"} {
			if listing := h.Run(command, "-S", "FORWARD"); strings.Count(listing, "-A FORWARD") != 2 {
				t.Fatalf("want two rules:\n%s", listing)
			}
		}
	}
}
