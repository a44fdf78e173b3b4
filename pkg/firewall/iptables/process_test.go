package iptables

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// TestMain lets the test binary be a plugin that is killed.
func TestMain(m *testing.M) {
	switch os.Getenv("DOCKYARD_TEST_VERB") {
	case "add":
		fail(resources()["hairpin"].Apply(ctx))
	case "add v4":
		fail(resources()["v4"].Apply(ctx))
	case "del":
		fail(resources()["hairpin"].Remove(ctx))
	default:
		os.Exit(m.Run())
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// plugin starts a process that does verb, with dir first in its PATH.
func plugin(t *testing.T, verb, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DOCKYARD_TEST_VERB="+verb, "PATH="+dir+":"+os.Getenv("PATH"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// clean returns the tables of a host that r was on.
func clean(t *testing.T, h *testnet.Host, r engine.Resource) [2]string {
	t.Helper()
	applied(t, r)
	if err := r.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	return save(h)
}

// However far ADD or DEL comes, Remove leaves nothing.
func TestKilled(t *testing.T) {
	t.Parallel()
	h, r := testnet.New(t), resources()["hairpin"]
	before := clean(t, h, r)
	for i := range 60 {
		verb := []string{"add", "del"}[i%2]
		if verb == "del" {
			applied(t, r)
		}
		cmd := plugin(t, verb, "")
		time.Sleep(rand.N(40 * time.Millisecond))
		kill(cmd)
		if err := r.Remove(ctx); err != nil {
			t.Fatalf("remove after killed %s: %v", verb, err)
		}
		if left := save(h); left != before {
			t.Fatalf("killed %s left\n%s", verb, left)
		}
	}
}

// Remove waits for the iptables-restore that a killed ADD has left running.
func TestSurvivor(t *testing.T) {
	t.Parallel()
	h, r := testnet.New(t), resources()["v4"]
	before := clean(t, h, r)
	real, err := exec.LookPath(v4.restorer())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	slow := fmt.Sprintf("#!/bin/sh\ntouch %s/started\nsleep 0.3\n%s \"$@\"\ntouch %[1]s/ended\n", dir, real)
	if err := os.WriteFile(filepath.Join(dir, v4.restorer()), []byte(slow), 0o755); err != nil {
		t.Fatal(err)
	}
	there := func(name string) func() error {
		return func() error { _, err := os.Stat(filepath.Join(dir, name)); return err }
	}
	cmd := plugin(t, "add v4", dir)
	testnet.Eventually(t, there("started"))
	kill(cmd)
	if err := r.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	testnet.Eventually(t, there("ended"))
	if left := save(h); left != before {
		t.Fatalf("left\n%s", left)
	}
}

// All tests once more with the iptables that has tables of its own in the kernel.
func TestLegacy(t *testing.T) {
	t.Parallel()
	if os.Getenv("DOCKYARD_TEST_LEGACY") != "" {
		return
	}
	dir := t.TempDir()
	for _, f := range families {
		for _, suffix := range []string{"", "-restore", "-save"} {
			path, err := exec.LookPath(f.command + "-legacy" + suffix)
			if err == nil {
				err = os.Symlink(path, dir+"/"+f.command+suffix)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DOCKYARD_TEST_LEGACY=1", "PATH="+dir+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}
