package zone

import (
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet/roundtrip"
)

// A7: a record is read as it was written, by this host and by others.
func TestA7RoundTrip(t *testing.T) {
	roundtrip.Check[Record](t)
	roundtrip.Check[[]Record](t)
}
