// Package integration tests the built plugins as a runtime would use them: the
// nine laws over every example, and scenarios with traffic.
package integration

import (
	"flag"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dockyard-cni/dockyard/pkg/testnet"
)

func TestMain(m *testing.M) {
	// Hosts wait for the kernel more than they compute: for RCU when links and
	// namespaces end. A flag on the command line goes before this.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	testscript.Main(testnet.M{M: m}, map[string]func(){
		"trace":  testnet.Trace,
		"answer": testnet.Answer,
		"ask":    testnet.Ask,
	})
}
