package dad

import (
	"strings"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// A port whose other end stays down gets no carrier: ADD fails and names it, instead
// of waiting for as long as its runtime does.
func TestD7NoCarrier(t *testing.T) {
	h := testnet.New(t)
	h.Run("sh", "-c", "ip link add v0 type veth peer name v1; ip link set v0 up")
	err := awaitCarrier(t.Context(), "v0", 10*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "link v0 has no carrier after 10ms") {
		t.Errorf("%v, want an error that names the link", err)
	}
}
