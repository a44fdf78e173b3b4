package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// A set tells where something has changed, in the directories that it keeps; of a
// directory itself, that it may be anything.
func TestSet(t *testing.T) {
	s, err := NewSet()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	root := t.TempDir()
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	for _, dir := range []string{a, b} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	touch := func(path string) {
		t.Helper()
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	taken := func(want string) {
		t.Helper()
		var got []string
		testnet.Eventually(t, func() error {
			select {
			case <-s.Woken():
				got = append(got, s.Take()...)
			default:
			}
			if !slices.Contains(got, want) {
				return fmt.Errorf("taken %q, want %s", got, want)
			}
			return nil
		})
	}
	if err := s.Keep(a, filepath.Join(root, "none")); err != nil {
		t.Fatal(err)
	}
	touch(filepath.Join(b, "unseen"))
	touch(filepath.Join(a, "x"))
	taken(filepath.Join(a, "x"))
	if err := s.Keep(b); err != nil {
		t.Fatal(err)
	}
	touch(filepath.Join(a, "unseen"))
	touch(filepath.Join(b, "y"))
	taken(filepath.Join(b, "y"))
	s.Note(filepath.Join(b, "z"))
	s.Note(b)
	if got := s.Take(); got != nil {
		t.Errorf("of the directory itself: %q", got)
	}
}
