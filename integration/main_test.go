// Package integration tests the built plugins as a runtime would use them: the
// nine laws over every example, and scenarios with traffic.
package integration

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dockyard-cni/dockyard/pkg/testnet"
)

func TestMain(m *testing.M) {
	testscript.Main(testnet.M{M: m}, map[string]func(){
		"trace":  testnet.Trace,
		"answer": testnet.Answer,
		"ask":    testnet.Ask,
	})
}
