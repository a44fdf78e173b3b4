// Package golden compares what code prints with text that is kept in files, so
// that a change of behaviour is a change that a reviewer sees.
//
// With -update a test writes what it found instead. Where tests of several
// packages share a file, do that with go test -p 1.
package golden

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite golden files with what the tests find")

// Update reports whether golden files are to be rewritten.
func Update() bool { return *update }

// File compares got with the file of that path.
func File(t testing.TB, path, got string) {
	t.Helper()
	if *update {
		write(t, path, []byte(got))
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update makes it", err)
	}
	compare(t, path, string(want), got)
}

// An Archive is a txtar file that holds the inputs of a case and what is
// expected of it.
type Archive struct {
	path string
	*txtar.Archive
}

// Open reads an archive; with -update one that is missing is empty.
func Open(t testing.TB, path string) *Archive {
	t.Helper()
	a, err := txtar.ParseFile(path)
	if os.IsNotExist(err) && *update {
		a, err = &txtar.Archive{}, nil
	}
	if err != nil {
		t.Fatalf("%v; go test -update makes it", err)
	}
	return &Archive{path, a}
}

// Each runs f as a subtest for every archive that the pattern finds.
func Each(t *testing.T, pattern string, f func(*testing.T, *Archive)) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no archive is called %s (%v)", pattern, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { f(t, Open(t, path)) })
	}
}

// Input returns a file of the archive, and whether there is one.
func (a *Archive) Input(name string) (string, bool) {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data), true
		}
	}
	return "", false
}

// Want compares got with a file of the archive. Where nothing is got, there is
// to be no such file.
func (a *Archive) Want(t testing.TB, name, got string) {
	t.Helper()
	if got != "" && !strings.HasSuffix(got, "\n") {
		got += "\n"
	}
	want, _ := a.Input(name)
	if !*update {
		compare(t, a.path+" "+name, want, got)
		return
	}
	if want != got {
		a.set(name, got)
		write(t, a.path, txtar.Format(a.Archive))
	}
}

func (a *Archive) set(name, data string) {
	for i, f := range a.Files {
		if f.Name != name {
			continue
		}
		if data == "" {
			a.Files = append(a.Files[:i], a.Files[i+1:]...)
		} else {
			a.Files[i].Data = []byte(data)
		}
		return
	}
	a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(data)})
}

// write leaves a file alone that is right already, so that its time says when
// it changed.
func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func compare(t testing.TB, what, want, got string) {
	t.Helper()
	if want != got {
		t.Errorf("%s; go test -update accepts it:\n%s", what, diff.Diff("want", []byte(want), "got", []byte(got)))
	}
}
