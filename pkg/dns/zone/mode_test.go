package zone

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Part A, small: whatever umask a runtime has, the files of a container may be read by
// its users, and written by nobody but root.
func TestSmallUmask(t *testing.T) {
	for _, mask := range []int{0, 0o777} {
		s := store(t)
		old := unix.Umask(mask)
		err := Entry{Store: s, Record: *record("a", "c1", "eth0", []string{"one"}, "10.0.0.1")}.Apply(t.Context())
		unix.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{hostsFile, resolvFile} {
			if st, err := os.Stat(filepath.Join(s.container("c1"), file)); err != nil || st.Mode().Perm() != 0o644 {
				t.Errorf("umask %#o: %s has mode %v, %v", mask, file, st.Mode(), err)
			}
		}
	}
}
