package backend_test

import (
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/firewall/backend"
)

func TestContract(t *testing.T) { testnet.Contract(t, cases) }

func cases() []testnet.Case {
	return []testnet.Case{
		{Resource: backend.NFTables().Ready, Role: engine.Require},
		{Resource: backend.IPTables().Ready, Role: engine.Require},
	}
}
