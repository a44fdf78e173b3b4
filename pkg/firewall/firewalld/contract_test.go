package firewalld_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/firewall/firewalld"
)

func TestContract(t *testing.T) { testnet.Contract(t, cases) }

func cases() []testnet.Case {
	return []testnet.Case{
		{Resource: firewalld.Running(), Role: engine.Require, Prepare: start},
		{
			Resource: firewalld.Interface("br0", "trusted"), Role: engine.Ensure, Prepare: start, Before: "in no zone",
			Breaks: map[string]string{"firewall-cmd --zone=trusted --remove-interface=br0": "in no zone"},
		},
	}
}

// start starts firewalld; it ends with the host.
func start(t *testing.T, h *testnet.Host) {
	t.Helper()
	h.Run("mkdir", "-p", "/run/dbus")
	for _, command := range []string{
		"dbus-daemon --config-file=" + testnet.Root() + "/integration/testdata/bus.conf --nofork --nopidfile",
		"firewalld --nofork --nopid --log-target=console",
	} {
		args := strings.Fields(command)
		if err := h.Start(exec.Command(args[0], args[1:]...)); err != nil {
			t.Fatal(err)
		}
	}
	testnet.Eventually(t, func() error {
		_, err := h.Try("firewall-cmd", "--state")
		return err
	})
}
