package cni

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Become replaces this process by the program of that name beside it, and returns
// only if that fails. A plugin's daemon is a program of its own where its
// libraries would take each ADD and DEL milliseconds to start.
func Become(program string, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	path := filepath.Join(filepath.Dir(self), program)
	return fmt.Errorf("%s: %w", path, syscall.Exec(path, append([]string{path}, args...), os.Environ()))
}
