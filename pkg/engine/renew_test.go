package engine

import (
	"context"
	"testing"
)

// CHECK of a set whose owner changes it meanwhile asks him again, as long as he
// says something new; a difference that he knows nothing of is one.
func TestSetRenews(t *testing.T) {
	w := newWorld("a")
	set := func(want ...string) (all []Resource) {
		for _, name := range want {
			all = append(all, object{world: w, name: name})
		}
		return all
	}
	asked := 0
	s := Set{
		Name: "set", Want: set("a"),
		List: func(context.Context) ([]Resource, error) {
			var names []string
			for name := range w.there {
				names = append(names, name)
			}
			return set(names...), nil
		},
		Renew: func(context.Context) ([]Resource, error) {
			asked++
			if asked == 1 {
				w.there["c"] = true // while it was looked at
				return set("a", "b"), nil
			}
			return set("a", "b", "c"), nil
		},
	}
	if diff, err := s.Observe(t.Context()); err != nil || diff != Same || asked != 0 {
		t.Errorf("%q, %v, asked %d times, want that nothing differs", diff, err, asked)
	}
	w.there["b"] = true
	if diff, err := s.Observe(t.Context()); err != nil || diff != Same || asked != 2 {
		t.Errorf("%q, %v, asked %d times, want that it has converged", diff, err, asked)
	}
	w.there["d"] = true
	if diff, err := s.Observe(t.Context()); err != nil || diff != "not wanted: make d" || asked != 4 {
		t.Errorf("%q, %v, asked %d times, want that d is not wanted", diff, err, asked)
	}
}
