package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/daemon/filelock"
)

// SIGTERM and SIGINT end a wait for a lock: here that of the leases, on which ADD and
// DEL of bridge wait in host-local, and that of the parents, on which macvlan waits
// itself. What ADD had made is gone.
func TestD4SignalEndsTheWait(t *testing.T) {
	for _, c := range []struct{ lock, conf string }{
		{"/var/lib/cni/networks/net/lock", `{"cniVersion":"1.1.0","name":"net","type":"bridge","bridge":"br0","ipam":{"type":"host-local","subnet":"10.9.0.0/24"}}`},
		{"/run/dockyard/parents", `{"cniVersion":"1.1.0","name":"net","type":"macvlan","master":"eth0","ipam":{"type":"host-local","subnet":"10.9.0.0/24"}}`},
	} {
		h := testnet.New(t)
		h.LAN("lan", "eth0")
		h.Container("c1")
		plugin := strings.Split(c.conf, `"`)[11]
		run := func(verb string) (*exec.Cmd, *bytes.Buffer) {
			var out bytes.Buffer
			cmd := exec.Command(filepath.Join(testnet.Bin(t), plugin))
			cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_CONTAINERID=c1", "CNI_NETNS="+h.Path("c1"), "CNI_IFNAME=eth0", "CNI_PATH="+testnet.Bin(t))
			cmd.Stdin, cmd.Stdout = strings.NewReader(c.conf), &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			return cmd, &out
		}
		for _, verb := range []string{"ADD", "DEL"} {
			if verb == "DEL" {
				if cmd, out := run("ADD"); cmd.Wait() != nil {
					t.Fatal(out)
				}
			}
			if strings.HasPrefix(c.lock, "/run/") {
				_ = os.MkdirAll(c.lock, 0o700)
			}
			release, err := filelock.Acquire(t.Context(), c.lock)
			if err != nil {
				t.Fatal(err)
			}
			cmd, out := run(verb)
			testnet.Eventually(t, func() error { return waited(c.lock) })
			begin := time.Now()
			if err = cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			took := time.Since(begin)
			release()
			// It is 100 ms on a machine that is not busy; without the signal a minute.
			if err == nil || took > filelock.Deadline/2 {
				t.Errorf("%s %s: %v after %s: %s", plugin, verb, err, took, out)
			}
			t.Logf("%s %s ended %s after the signal: %s", plugin, verb, took, out)
			if links := h.Run("ip", "-o", "link"); verb == "ADD" && strings.Contains(links, "alias net/c1/eth0") {
				t.Errorf("%s left %s", plugin, links)
			}
			if cmd, out := run("DEL"); cmd.Wait() != nil {
				t.Error(out)
			}
		}
	}
}

// waited fails until somebody waits for the lock.
func waited(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	locks, err := os.ReadFile("/proc/locks")
	inode := fmt.Sprintf(":%d ", info.Sys().(*syscall.Stat_t).Ino)
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, "->") && strings.Contains(line, inode) {
			return nil
		}
	}
	if err == nil {
		err = fmt.Errorf("nobody waits for %s", path)
	}
	return err
}
