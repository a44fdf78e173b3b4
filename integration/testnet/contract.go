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
	"os"
	"path"
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
	Setup string    // for sh: what the resource needs around it
	Needs []Feature // what the kernel must have, if not every one has it

	// Prepare is for what sh cannot set up.
	Prepare func(*testing.T, *Host)

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

// Contract is the whole test of a package that has resources, by the name of
// TestContract in its contract_test.go: a case, or more, for each type. Each case
// is held to what engine.Resource promises, on a host of its own with a container
// c1. Cases are made anew for each, as a netns.NS is of one host.
//
// Which cases run under the second kernel, Needs says: scripts/test.sh runs
// TestContract there, in the packages that have any.
func Contract(t *testing.T, cases func() []Case) {
	dir := packageDir(t)
	held := map[string]bool{}
	for i, c := range cases() {
		held[c.TypeOf()] = true
		_, name, _ := strings.Cut(c.TypeOf(), ".")
		if !Here(t, strings.TrimSuffix(contractPrefix+dir+"/"+name+"+"+joined(c.Needs), "+"), c.Needs...) {
			continue
		}
		t.Run(c.TypeOf()+" "+strings.Fields(c.Key())[0], func(t *testing.T) {
			t.Parallel()
			h := New(t)
			h.Container("c1")
			cases()[i].hold(t, h)
		})
	}
	for _, name := range Types(t)[dir] {
		if !held[name] {
			t.Errorf("%s is a resource without a case here", name)
		}
	}
	mine := func(name string) bool { return path.Dir(name) == contractPrefix+dir }
	if names := Forgotten(mine); len(names) > 0 {
		t.Errorf("left to this run, and not run: %q", names)
	}
}

const contractPrefix = "contract/"

// IsContract reports whether a test that was left to the second kernel is one of
// Contract, in whatever package.
func IsContract(name string) bool { return strings.HasPrefix(name, contractPrefix) }

// packageDir is the directory of the package that is tested, below the module's.
func packageDir(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir, err = filepath.Rel(Root(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func joined(features []Feature) string {
	var words []string
	for _, f := range features {
		words = append(words, string(f))
	}
	return strings.Join(words, "+")
}

func (c Case) hold(t *testing.T, h *Host) {
	t.Helper()
	if c.Prepare != nil {
		c.Prepare(t, h)
	}
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

// Types lists the types below pkg that are resources, by the directory of their
// package: those with a method Observe(context.Context) (engine.Diff, error).
func Types(t testing.TB) map[string][]string {
	t.Helper()
	types := map[string][]string{}
	err := filepath.WalkDir(filepath.Join(Root(), "pkg"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(Root(), filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if name, ok := observer(decl); ok {
				types[dir] = append(types[dir], file.Name.Name+"."+name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
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
