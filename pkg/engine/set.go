package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// A Set is the objects that are to be in one place, such as the routes by one
// link, and no others there. It is a Resource itself.
//
// Apply replaces an object by one with the same Key in one step, so what goes on
// using it is not interrupted; what is not wanted goes last.
type Set struct {
	Name string // Key
	Want []Resource
	// List returns what is there. What is as wanted has the String of what is
	// wanted.
	List func(context.Context) ([]Resource, error)
	// Renew, unless it is nil, returns what is wanted now. Observe asks before it
	// believes in a difference, as who decides what is wanted may have changed what
	// is there meanwhile.
	Renew func(context.Context) ([]Resource, error)
}

// Key implements Resource.
func (s Set) Key() string { return s.Name }

func (s Set) String() string {
	var commands []string
	for _, r := range s.Want {
		commands = append(commands, r.String())
	}
	if commands == nil {
		return "# no " + s.Name
	}
	return strings.Join(commands, " ; ")
}

// compare returns what is missing, and what is there and not wanted.
func (s Set) compare(ctx context.Context) (missing, extra []Resource, err error) {
	found, err := s.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	missing, extra = s.beside(found)
	return missing, extra, nil
}

func (s Set) beside(found []Resource) (missing, extra []Resource) {
	there := make(map[string]bool, len(found))
	for _, r := range found {
		there[r.String()] = true
	}
	for _, r := range s.Want {
		if !there[r.String()] {
			missing = append(missing, r)
		}
	}
	if missing == nil && len(s.Want) == len(there) && len(there) == len(found) {
		return nil, nil // as almost always
	}
	keys := make(map[string]bool, len(s.Want))
	for _, r := range s.Want {
		keys[r.Key()] = true
	}
	for _, r := range found {
		if !keys[r.Key()] {
			extra = append(extra, r)
		}
	}
	return missing, extra
}

// Observe implements Resource. It names every difference.
func (s Set) Observe(ctx context.Context) (Diff, error) {
	const tries = 10 // each after it has changed again
	for range tries {
		diff, err := s.observe(ctx)
		if err != nil || diff == Same || s.Renew == nil {
			return diff, err
		}
		before := s.String()
		if s.Want, err = s.Renew(ctx); err != nil {
			return Same, err
		}
		if s.String() == before {
			break
		}
	}
	return s.observe(ctx)
}

func (s Set) observe(ctx context.Context) (Diff, error) {
	missing, extra, err := s.compare(ctx)
	if err != nil {
		return Same, err
	}
	var diffs []string
	for _, r := range missing {
		diffs = append(diffs, "missing or different: "+r.String())
	}
	for _, r := range extra {
		diffs = append(diffs, "not wanted: "+r.String())
	}
	return Diff(strings.Join(diffs, "; ")), nil
}

// Apply implements Resource. It goes on past failures.
func (s Set) Apply(ctx context.Context) error {
	missing, extra, err := s.compare(ctx)
	if err != nil {
		return err
	}
	return change(ctx, missing, extra)
}

// Follow makes s of another set that is there as it wants, without looking: it
// costs what the two differ by, and what they have in common may be left out of
// both.
func (s Set) Follow(ctx context.Context, before Set) error {
	missing, extra := s.beside(before.Want)
	return change(ctx, missing, extra)
}

func change(ctx context.Context, missing, extra []Resource) error {
	var errs []error
	for _, r := range missing {
		if err := r.Apply(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r, err))
		}
	}
	return errors.Join(append(errs, remove(ctx, extra, nil))...)
}

// Remove implements Resource.
func (s Set) Remove(ctx context.Context) error {
	found, err := s.List(ctx)
	return errors.Join(err, remove(ctx, found, nil))
}
