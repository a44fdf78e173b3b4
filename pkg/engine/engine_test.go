package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A world is what objects exist, and what was done in which order.
type world struct {
	there map[string]bool
	done  []string
}

func (w *world) did(what, name string) { w.done = append(w.done, what+" "+name) }

// An object is a resource of a world, which fails where it is told to.
type object struct {
	*world
	name                      string
	owned                     bool // Apply of one that exists is ErrExists
	half                      bool // a failing Apply leaves the object there
	applyErr, seeErr, goneErr error
}

func (o object) Key() string    { return o.name }
func (o object) String() string { return "make " + o.name }

func (o object) Observe(context.Context) (Diff, error) {
	o.did("observe", o.name)
	if o.seeErr != nil || o.there[o.name] {
		return Same, o.seeErr
	}
	return Absent, nil
}

func (o object) Apply(ctx context.Context) error {
	o.did("apply", o.name)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case o.owned && o.there[o.name]:
		return fmt.Errorf("%s: %w", o.name, ErrExists)
	case o.applyErr != nil && !o.half:
		return o.applyErr
	}
	o.there[o.name] = true
	return o.applyErr
}

func (o object) Remove(ctx context.Context) error {
	o.did("remove", o.name)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if o.goneErr == nil {
		delete(o.there, o.name)
	}
	return o.goneErr
}

var errBroken = errors.New("broken")

// plan has a step of each role and name, as in "require:parent own:link".
func (w *world) plan(text string, fail func(*object)) (p Plan) {
	for word := range strings.FieldsSeq(text) {
		role, name, _ := strings.Cut(word, ":")
		o := object{world: w, name: name, owned: role == "own"}
		if fail != nil {
			fail(&o)
		}
		map[string]func(...Resource){"require": p.Require, "ensure": p.Ensure, "own": p.Own}[role](o)
	}
	return p
}

func newWorld(there ...string) *world {
	w := &world{there: map[string]bool{}}
	for _, name := range there {
		w.there[name] = true
	}
	return w
}

const text = "require:parent ensure:bridge own:veth ensure:addr own:rule own:lease"

func TestApplyInOrder(t *testing.T) {
	w := newWorld("parent")
	if err := Apply(t.Context(), w.plan(text, nil)); err != nil {
		t.Fatal(err)
	}
	want := []string{"observe parent", "apply bridge", "apply veth", "apply addr", "apply rule", "apply lease"}
	if !slices.Equal(w.done, want) {
		t.Errorf("did %q, want %q", w.done, want)
	}
}

// Whichever step fails, whether it leaves half an object or not: of the owned
// ones nothing is left, and what is ensured stays.
func TestApplyUndoes(t *testing.T) {
	steps := (&world{}).plan(text, nil)
	for i, failing := range steps {
		for _, half := range []bool{false, true} {
			w := newWorld("parent")
			if failing.Role == Require {
				delete(w.there, "parent")
			}
			err := Apply(t.Context(), w.plan(text, func(o *object) {
				if o.name == failing.Key() {
					o.applyErr, o.half = errBroken, half
				}
			}))
			if err == nil || !strings.Contains(err.Error(), "make "+failing.Key()+": ") {
				t.Errorf("%s fails: error %v does not name it", failing.Key(), err)
			}
			for j, s := range steps {
				if want := s.Role == Ensure && j < i; s.Role != Require && w.there[s.Key()] != want && j != i {
					t.Errorf("%s fails: %s is there: %v", failing.Key(), s.Key(), w.there[s.Key()])
				}
				if s.Role == Own && w.there[s.Key()] {
					t.Errorf("%s fails: owned %s is left", failing.Key(), s.Key())
				}
			}
		}
	}
}

func TestApplyUndoesLastFirst(t *testing.T) {
	w := newWorld()
	err := Apply(t.Context(), w.plan("own:a own:b own:c own:d", func(o *object) {
		if o.name == "c" {
			o.applyErr = errBroken
		}
		if o.name == "b" {
			o.goneErr = errors.New("stuck")
		}
	}))
	want := []string{"apply a", "apply b", "apply c", "remove c", "remove b", "remove a"}
	if !slices.Equal(w.done, want) {
		t.Errorf("did %q, want %q", w.done, want)
	}
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "removing make b: stuck") {
		t.Errorf("error %v, want both failures", err)
	}
}

// What is there already is somebody else's: it is neither touched nor removed.
func TestApplyLeavesWhatExists(t *testing.T) {
	w := newWorld("b")
	err := Apply(t.Context(), w.plan("own:a own:b own:c", nil))
	if !errors.Is(err, ErrExists) {
		t.Errorf("error %v, want ErrExists", err)
	}
	want := []string{"apply a", "apply b", "remove a"}
	if !slices.Equal(w.done, want) || !w.there["b"] {
		t.Errorf("did %q, want %q; b is there: %v", w.done, want, w.there["b"])
	}
}

func TestApplyRequires(t *testing.T) {
	w := newWorld()
	err := Apply(t.Context(), w.plan(text, nil))
	if !errors.Is(err, ErrRequired) || !strings.Contains(err.Error(), "make parent: absent") {
		t.Errorf("error %v, want ErrRequired that names the parent", err)
	}
	if len(w.there) > 0 {
		t.Errorf("made %v", w.there)
	}
	err = Apply(t.Context(), w.plan("require:parent", func(o *object) { o.seeErr = errBroken }))
	if !errors.Is(err, ErrRequired) || !errors.Is(err, errBroken) {
		t.Errorf("error %v, want ErrRequired and the cause", err)
	}
}

// A cancelled ADD undoes what it made all the same.
func TestApplyCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := newWorld()
	p := w.plan("own:a own:b own:c", nil)
	p[1].Resource = cancelling{p[1].Resource.(object), cancel}
	if err := Apply(ctx, p); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was cancelled", err)
	}
	if len(w.there) > 0 {
		t.Errorf("left %v", w.there)
	}
}

// No step begins after the signal, not even of resources that never look for it.
func TestD4ApplyStopsBeforeTheNextStep(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := newWorld()
	if err := Apply(ctx, w.plan("ensure:a own:b", nil)); !errors.Is(err, context.Canceled) || len(w.done) > 0 {
		t.Errorf("error %v, done %q", err, w.done)
	}
}

// cancelling is an object during whose Apply the signal comes.
type cancelling struct {
	object
	cancel func()
}

func (c cancelling) Apply(ctx context.Context) error {
	defer c.cancel()
	return c.object.Apply(ctx)
}

func TestCheckSaysEverything(t *testing.T) {
	w := newWorld("parent", "veth")
	err := Check(t.Context(), w.plan(text, func(o *object) {
		if o.name == "rule" {
			o.seeErr = errBroken
		}
	}))
	if err == nil {
		t.Fatal("no error")
	}
	want := "make bridge: absent\nmake addr: absent\nmake rule: broken\nmake lease: absent"
	if err.Error() != want || !errors.Is(err, errBroken) {
		t.Errorf("error %q, want %q", err, want)
	}
	if slices.ContainsFunc(w.done, func(s string) bool { return !strings.HasPrefix(s, "observe ") }) {
		t.Errorf("CHECK did %q", w.done)
	}
	if err := Check(t.Context(), newWorld("parent").plan("require:parent", nil)); err != nil {
		t.Error(err)
	}
}

func TestRequirements(t *testing.T) {
	p := newWorld().plan(text+" require:kernel", nil)
	if got := p.Requirements().String(); got != "require make parent\nrequire make kernel\n" {
		t.Errorf("%q", got)
	}
	if len(p) != 7 {
		t.Errorf("the plan itself has %d steps now", len(p))
	}
}

func TestCut(t *testing.T) {
	for plan, want := range map[string][2]string{
		"require:parent ensure:bridge own:veth ensure:addr": {"require make parent\nensure  make bridge\n", "own     make veth\nensure  make addr\n"},
		"ensure:bridge": {"ensure  make bridge\n", ""},
		"own:veth":      {"", "own     make veth\n"},
	} {
		before, own := newWorld().plan(plan, nil).Cut()
		if got := [2]string{before.String(), own.String()}; got != want {
			t.Errorf("%s: %q, want %q", plan, got, want)
		}
	}
}

func TestPlanString(t *testing.T) {
	const want = "require make parent\nensure  make bridge\nown     make veth\n"
	if got := newWorld().plan("require:parent ensure:bridge own:veth", nil).String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (Plan{}).String(); got != "" {
		t.Errorf("an empty plan is %q", got)
	}
}

// A scope finds objects called mark:name.
type scope struct {
	*world
	objects []object
	err     error
}

func (s scope) Of(ctx context.Context, m owner.Mark) (out []Found, err error) {
	all, err := s.All(ctx)
	return slices.DeleteFunc(all, func(f Found) bool { return f.Mark != m }), err
}

func (s scope) All(context.Context) (out []Found, err error) {
	for _, o := range s.objects {
		mark, _, _ := strings.Cut(o.name, ":")
		out = append(out, Found{owner.Mark(mark), o})
	}
	return out, s.err
}

// scopes: two of which the first cannot list everything, and one object that
// cannot be removed.
func scopes(w *world) []Scope {
	return []Scope{
		scope{w, []object{{world: w, name: "m1:link"}, {world: w, name: "m2:link", goneErr: errors.New("stuck")}}, errBroken},
		scope{w, []object{{world: w, name: "m1:rule", goneErr: errors.New("busy")}, {world: w, name: "m3:rule"}}, nil},
	}
}

func TestReleaseGoesOn(t *testing.T) {
	w := newWorld()
	err := Release(t.Context(), scopes(w), "m1", nil)
	if want := []string{"remove m1:rule", "remove m1:link"}; !slices.Equal(w.done, want) {
		t.Errorf("did %q, want %q: the last scope first", w.done, want)
	}
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "removing make m1:rule: busy") {
		t.Errorf("error %v, want both failures", err)
	}
	if err := Release(t.Context(), scopes(w)[1:], "nobody", nil); err != nil {
		t.Errorf("nothing to release: %v", err)
	}
}

func TestPruneKeeps(t *testing.T) {
	w := newWorld()
	err := Prune(t.Context(), scopes(w), func(m owner.Mark) bool { return m == "m1" }, nil)
	if want := []string{"remove m3:rule", "remove m2:link"}; !slices.Equal(w.done, want) {
		t.Errorf("did %q, want %q", w.done, want)
	}
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "stuck") {
		t.Errorf("error %v, want both failures", err)
	}
}

func TestDiff(t *testing.T) {
	if d := Differ("mtu", 1500, 1500); d != Same {
		t.Errorf("equal values: %q", d)
	}
	if d := First(Same, Differ("mtu", 1500, 1450), Absent); d != "mtu 1500, want 1450" {
		t.Errorf("%q", d)
	}
	if d := First(); d != Same {
		t.Errorf("nothing: %q", d)
	}
	held := &HeldError{"host port tcp 8080", "net/c1/eth0"}
	if held.Error() != "host port tcp 8080 is held by net/c1/eth0" {
		t.Error(held)
	}
}
