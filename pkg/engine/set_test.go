package engine

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// A pair is a resource of a table: what a key has.
type pair struct {
	table      map[string]string
	key, value string
	changes    *int
}

func (p pair) Key() string    { return p.key }
func (p pair) String() string { return p.key + "=" + p.value }

func (p pair) Observe(context.Context) (Diff, error) {
	return Differ("value", p.table[p.key], p.value), nil
}

func (p pair) Apply(context.Context) error {
	*p.changes++
	p.table[p.key] = p.value
	return nil
}

func (p pair) Remove(context.Context) error {
	*p.changes++
	delete(p.table, p.key)
	return nil
}

// A set that follows another leaves what it would have left after looking, and
// changes what the two differ by, no more.
func TestFollow(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	table, changes := map[string]string{}, 0
	var before Set
	for range 1000 {
		var now Set
		want := map[string]string{}
		for k := range 8 {
			if random.IntN(2) == 0 {
				key, value := fmt.Sprint(k), fmt.Sprint(random.IntN(2))
				want[key] = value
				now.Want = append(now.Want, pair{table, key, value, &changes})
			}
		}
		differ := 0
		for k := range 8 {
			if key := fmt.Sprint(k); table[key] != want[key] {
				differ++
			}
		}
		changes = 0
		if err := now.Follow(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(table, want) || changes != differ {
			t.Fatalf("found %v after %d changes, want %v after %d", table, changes, want, differ)
		}
		before = now
	}
	if len(slices.Collect(maps.Keys(table))) == 0 {
		t.Error("nothing was ever wanted")
	}
}
