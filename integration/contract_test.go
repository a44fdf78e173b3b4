package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// TestContracts: each package that has resources has a contract_test.go, which
// holds them to what engine.Resource promises. (testnet.Contract fails if a type of
// its package has no case.)
func TestContracts(t *testing.T) {
	for dir, types := range testnet.Types(t) {
		text, err := os.ReadFile(filepath.Join(testnet.Root(), dir, "contract_test.go"))
		if err != nil || !strings.Contains(string(text), "func TestContract(t *testing.T) { testnet.Contract(t, cases) }") {
			t.Errorf("%s has the resources %v, and no TestContract with cases of them (%v)", dir, types, err)
		}
	}
}
