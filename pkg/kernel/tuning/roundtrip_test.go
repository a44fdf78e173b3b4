package tuning

import (
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet/roundtrip"
)

// A7: the old values are read as they were saved.
func TestA7RoundTrip(t *testing.T) { roundtrip.Check[saved](t) }
