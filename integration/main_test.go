// Package integration tests the built plugins as a runtime would use them: the
// nine laws over every example, and scenarios with traffic.
package integration

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

func TestMain(m *testing.M) {
	// A flag on the command line goes before this.
	if err := flag.Set("test.parallel", strconv.Itoa(parallel())); err != nil {
		panic(err)
	}
	debug.SetGCPercent(400) // what is looked at is a lot of text for a short time
	testscript.Main(run{testnet.M{M: m}}, map[string]func(){
		"trace":      testnet.Trace,
		"answer":     testnet.Answer,
		"ask":        testnet.Ask,
		"inject":     testnet.Inject,
		"nameserver": testnet.NameServer,
		"misbehave":  testnet.Misbehave,
		"eventually": eventually,
	})
}

// parallel is how many tests run at the same time. Hosts wait for the kernel more
// than they compute: for RCU when links and namespaces end.
func parallel() int {
	if testnet.Emulated() {
		return 3 // an emulated machine computes more than it waits
	}
	return 8
}

// A run of the tests under a second kernel does all that was left to it.
type run struct{ testnet.M }

func (r run) Run() int {
	code := r.M.Run()
	fmt.Print(draws())
	if names := testnet.Forgotten(func(name string) bool { return !testnet.IsContract(name) }); len(names) > 0 {
		fmt.Fprintf(os.Stderr, "FAIL: left to this run, and not run: %q\n", names)
		return max(code, 1)
	}
	return code
}

// eventually is a program that runs another until it succeeds, or fails if "!" is
// before it, for as long as testnet.Patience. It prints what the last run printed: a
// script's log with all of them would hide what went wrong.
func eventually() {
	args := os.Args[1:]
	failure := args[0] == "!"
	if failure {
		args = args[1:]
	}
	if args[0] == "exec" {
		args = args[1:]
	}
	var stdout, stderr bytes.Buffer
	err := testnet.Until(func() error {
		stdout.Reset()
		stderr.Reset()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		if failure && err == nil {
			return errors.New("it still succeeds")
		} else if failure {
			return nil
		}
		return err
	})
	os.Stdout.Write(stdout.Bytes())
	os.Stderr.Write(stderr.Bytes())
	if err != nil {
		fmt.Fprintln(os.Stderr, "eventually:", err)
		os.Exit(1)
	}
}
