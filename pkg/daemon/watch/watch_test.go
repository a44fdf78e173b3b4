package watch

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// woken waits until it wakes, by a change that has been made.
func woken(t *testing.T, wakes <-chan struct{}, change string) {
	t.Helper()
	testnet.Eventually(t, func() error {
		select {
		case <-wakes:
			return nil
		default:
			return errors.New("not woken by: " + change)
		}
	})
}

// done fails the test if a change could not be made.
func done(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "here")
	wakes, err := Dir(t.Context(), dir, slog.Default())
	done(t, err)
	done(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o600))
	woken(t, wakes, "a file comes")
	done(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
	woken(t, wakes, "a file is renamed")
	done(t, os.Chmod(filepath.Join(dir, "b"), 0o600))
	woken(t, wakes, "a file is touched")
	done(t, os.Remove(filepath.Join(dir, "b")))
	woken(t, wakes, "a file goes")
}

// TestFile: the file comes, is written to, and is replaced, as Kubernetes does it with
// a symbolic link beside it.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "peers.json")
	wakes, err := File(t.Context(), path, slog.Default())
	done(t, err)
	done(t, os.Symlink("..data/peers.json", path))
	woken(t, wakes, "a link that leads nowhere yet")
	for _, version := range []string{"v1", "v2"} {
		done(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		done(t, os.WriteFile(filepath.Join(dir, version, "peers.json"), nil, 0o600))
		done(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
		woken(t, wakes, version+" is there")
		done(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		woken(t, wakes, version+" takes the place of what was")
	}
	done(t, os.Remove(path))
	done(t, os.WriteFile(path, nil, 0o600))
	woken(t, wakes, "the file comes")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	done(t, err)
	_, err = f.WriteString("{}")
	done(t, errors.Join(err, f.Close()))
	woken(t, wakes, "the file is written to")
	if _, err := File(t.Context(), filepath.Join(dir, "none", "peers.json"), slog.Default()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file in no directory: %v", err)
	}
}
