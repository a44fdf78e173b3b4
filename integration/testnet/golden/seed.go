package golden

import (
	"path/filepath"
	"strings"
	"testing"
)

// Seed gives a fuzz target the files of those names in each archive that the
// pattern finds, as []byte arguments; where an archive lacks one it is empty.
func Seed(f *testing.F, pattern string, names ...string) {
	f.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		f.Fatalf("no archive is called %s (%v)", pattern, err)
	}
	for _, path := range paths {
		a := Open(f, path)
		args := make([]any, len(names))
		for i, name := range names {
			text, _ := a.Input(name)
			args[i] = []byte(text)
		}
		f.Add(args...)
	}
}

// SeedBroken gives a fuzz target the configurations of a catalogue of broken
// ones, followed by as many empty arguments as it has more.
func SeedBroken(f *testing.F, path string, more ...any) {
	f.Helper()
	for _, file := range Open(f, path).Files {
		_, rest, _ := strings.Cut(string(file.Data), "\n")
		conf, _, _ := strings.Cut(rest, "\n> ")
		f.Add(append([]any{[]byte(conf)}, more...)...)
	}
}
