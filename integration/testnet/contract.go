package testnet

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// A Case is one resource under the contract of engine.Resource.
type Case struct {
	engine.Resource
	Role  engine.Role
	Setup string // for sh: what the resource needs around it
	Needs string // what the kernel must have, if not every one has it

	// Breaks are commands that change one attribute by hand each, with a word
	// that the Diff must have; "absent" for a Diff that is engine.Absent.
	Breaks map[string]string

	// Before is the Diff before the first Apply, engine.Absent unless set.
	Before string
	// Stays says that Remove leaves the object, as it goes with another.
	Stays bool
	// Remake says that Apply refuses what differs, as it may be another's;
	// Remove and Apply put it right.
	Remake bool
	// Unseen says that there is nothing to observe.
	Unseen bool
}

// Contract holds a resource to what engine.Resource promises.
func Contract(t *testing.T, h *Host, c Case) {
	t.Helper()
	if c.Setup != "" {
		h.Run("sh", "-c", c.Setup)
	}
	if c.Unseen || c.Role == engine.Require {
		c.same(t, "before anything")
	} else {
		c.differs(t, "before Apply", orAbsent(c.Before))
	}
	c.apply(t, "the first")
	c.again(t, h)
	for _, command := range slices.Sorted(maps.Keys(c.Breaks)) {
		want := c.Breaks[command]
		h.Run("sh", "-c", command)
		c.differs(t, command, want)
		c.mend(t, command)
	}
	c.remove(t, "the first")
	if !c.Stays && !c.Unseen && c.Role != engine.Require {
		c.differs(t, "after Remove", orAbsent(c.Before))
	}
	c.remove(t, "the second")
}

func orAbsent(s string) string {
	if s == "" {
		return string(engine.Absent)
	}
	return s
}

// again applies what is there: ensured again, owned not twice.
func (c Case) again(t *testing.T, h *Host) {
	t.Helper()
	before := h.settled()
	err := c.Apply(context.Background())
	if c.Role == engine.Own {
		if !errors.Is(err, engine.ErrExists) {
			t.Errorf("%s: a second Apply of what is owned: %v, want ErrExists", c, err)
		}
	} else if err != nil {
		t.Errorf("%s: a second Apply: %v", c, err)
	}
	if err := Equal(before, h.Snapshot()); err != nil {
		t.Errorf("%s: a second Apply: %v", c, err)
	}
	c.same(t, "a second Apply")
}

// settled is a snapshot of a host that the kernel has done with: the local route
// of an IPv6 address, for one, comes after the address.
func (h *Host) settled() Snapshot {
	h.t.Helper()
	before := h.Snapshot()
	for range 20 {
		now := h.Snapshot()
		if Equal(before, now) == nil {
			break
		}
		before = now
	}
	return before
}

// mend puts right what was broken: Apply of what is ensured, and of what is
// owned after Remove.
func (c Case) mend(t *testing.T, after string) {
	t.Helper()
	if c.Role == engine.Own || c.Remake {
		c.remove(t, after)
	}
	c.apply(t, after)
}

func (c Case) apply(t *testing.T, when string) {
	t.Helper()
	if err := c.Apply(context.Background()); err != nil {
		t.Fatalf("%s: Apply, %s: %v", c, when, err)
	}
	c.same(t, "Apply, "+when)
}

func (c Case) remove(t *testing.T, when string) {
	t.Helper()
	if err := c.Remove(context.Background()); err != nil {
		t.Errorf("%s: Remove, %s: %v", c, when, err)
	}
}

func (c Case) same(t *testing.T, when string) {
	t.Helper()
	if diff, err := c.Observe(context.Background()); err != nil || diff != engine.Same {
		t.Errorf("%s: %s: observed %q, %v, want the same", c, when, diff, err)
	}
}

// differs also takes an error that names what is wrong: that a link is not there
// is no Diff of an address on it.
func (c Case) differs(t *testing.T, when, want string) {
	t.Helper()
	diff, err := c.Observe(context.Background())
	text := string(diff)
	if err != nil {
		text = err.Error()
	}
	if !strings.Contains(text, want) || text == "" {
		t.Errorf("%s: %s: observed %q, want it to name %q", c, when, text, want)
	}
}

// TypeOf names the resource's type as Types does.
func (c Case) TypeOf() string {
	return strings.TrimPrefix(reflect.TypeOf(c.Resource).String(), "*")
}

// Types lists the types below pkg that are resources: those with a method
// Observe(context.Context) (engine.Diff, error).
func Types(t testing.TB) []string {
	t.Helper()
	var types []string
	err := filepath.WalkDir(filepath.Join(Root(), "pkg"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if name, ok := observer(decl); ok {
				types = append(types, file.Name.Name+"."+name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(types)
	return types
}

// observer returns the receiver's type if decl is a resource's Observe.
func observer(decl ast.Decl) (string, bool) {
	f, ok := decl.(*ast.FuncDecl)
	if !ok || f.Recv == nil || f.Name.Name != "Observe" {
		return "", false
	}
	results := f.Type.Results
	if results == nil || fmt.Sprint(typeNames(results.List)) != "[engine.Diff error]" {
		return "", false
	}
	return strings.TrimPrefix(typeNames(f.Recv.List)[0], "*"), true
}

func typeNames(fields []*ast.Field) []string {
	var out []string
	for _, f := range fields {
		out = append(out, typeName(f.Type))
	}
	return out
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return "*" + typeName(e.X)
	case *ast.SelectorExpr:
		return typeName(e.X) + "." + e.Sel.Name
	}
	return "?"
}
