package testnet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Root is the directory of go.mod.
func Root() string {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	panic("tests run outside the module")
}

// Bin returns the directory with the plugins under test: $DOCKYARD_BIN, or else
// all of them and cnitool built from this tree, once a process.
func Bin(t testing.TB) string {
	t.Helper()
	dir, err := bin()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var built string

var bin = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("DOCKYARD_BIN"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.MkdirTemp("", "dockyard-bin")
	if err != nil {
		return "", err
	}
	built = dir
	args := []string{"build", "-o", dir + "/"}
	if os.Getenv("GOCOVERDIR") != "" {
		args = append(args, "-cover", "-coverpkg=./...")
	}
	cmd := exec.Command("go", append(args, "./plugins/...", "./cmd/...", "github.com/containernetworking/cni/cnitool")...)
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOCOVERDIR=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the plugins: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	return dir, nil
})

// M is a testing.M that removes what Bin built.
type M struct{ *testing.M }

// Run runs the tests.
func (m M) Run() int {
	code := m.M.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	return code
}
