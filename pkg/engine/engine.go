// Package engine carries plans out: it makes a host look the way a plan says it
// should, reports how the host differs from the plan, and removes what the plan made.
//
// A Plan is plain data computed from a network configuration. Every CNI verb is
// one of the functions below, so what ADD makes, CHECK verifies and DEL removes
// cannot drift apart.
package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A Resource is one object in the kernel or on disk: a link, an address, a
// lease, a group of nftables elements.
type Resource interface {
	// Key identifies the object, whatever its attributes ("link cni0").
	Key() string

	// String is the command a person would type to make it ("ip link add cni0
	// type bridge mtu 1500"), for errors, logs and golden files. It needs no
	// privilege and reads nothing from the host.
	fmt.Stringer

	// Observe says how the object differs from what is wanted. It compares only
	// what Apply sets, so later plugins in a chain may add to it. It changes
	// nothing.
	Observe(context.Context) (Diff, error)

	// Apply makes the object, or puts it right; Observe then returns Same. An
	// object that carries an owner mark is made anew or not at all: where one
	// exists already, Apply returns an error that wraps ErrExists and leaves it
	// as it was. Apply asks the kernel to decide ("create exclusively") rather
	// than looking first, so that two callers at once are safe.
	Apply(context.Context) error

	// Remove deletes the object; it is not an error if there is none.
	Remove(context.Context) error
}

// A Joiner is an owned Resource of a plugin that may stand more than once in a list.
// Where Apply finds the object, an earlier plugin of the list has made it: Join adds
// to it what is missing, or returns an error that wraps ErrExists where the object is
// not the suite's. What Join adds is removed with the object.
type Joiner interface {
	Resource
	Join(context.Context) error
}

// A RestoreError is returned by Remove where the object is gone, but something that
// was changed for it cannot be put back as it was.
type RestoreError struct{ Err error }

func (e *RestoreError) Error() string { return "cannot restore the former values: " + e.Err.Error() }
func (e *RestoreError) Unwrap() error { return e.Err }

// A Diff says in a few words how an object is not as wanted ("mtu 1500, want 1450").
type Diff string

const (
	// Same means that nothing differs.
	Same Diff = ""
	// Absent means that there is no such object.
	Absent Diff = "absent"
)

func (d Diff) Error() string { return string(d) }

// Differ returns the Diff of one attribute: Same if found equals want, otherwise
// "name found, want want".
func Differ[T comparable](name string, found, want T) Diff {
	if found == want {
		return Same
	}
	return Diff(fmt.Sprintf("%s %v, want %v", name, found, want))
}

// First returns the first of diffs that is not Same.
func First(diffs ...Diff) Diff {
	for _, d := range diffs {
		if d != Same {
			return d
		}
	}
	return Same
}

// A Role says what may be done to the object of a step.
type Role uint8

const (
	// Require is for what must be there already; it is never touched.
	Require Role = iota
	// Ensure is for what is made right and never removed: it is shared, or
	// inside an owned object and goes with it.
	Ensure
	// Own is for what belongs to one attachment: made by ADD, removed by DEL and GC.
	Own
)

func (r Role) String() string { return [...]string{"require", "ensure", "own"}[r] }

// A Step is a Resource and its role.
type Step struct {
	Role Role
	Resource
}

// A Plan is the steps of one attachment, in the order they are made.
type Plan []Step

// Require, Ensure and Own append steps of that role to p.
func (p *Plan) Require(rs ...Resource) { p.add(Require, rs) }

// Ensure appends steps whose objects are made right and left behind.
func (p *Plan) Ensure(rs ...Resource) { p.add(Ensure, rs) }

// Own appends steps whose objects belong to the attachment.
func (p *Plan) Own(rs ...Resource) { p.add(Own, rs) }

func (p *Plan) add(role Role, rs []Resource) {
	for _, r := range rs {
		*p = append(*p, Step{role, r})
	}
}

// String prints p one step a line, each with its role.
func (p Plan) String() string {
	var s string
	for _, step := range p {
		s += fmt.Sprintf("%-8s%s\n", step.Role, step)
	}
	return s
}

// ErrExists is wrapped by Apply of an owned object that is already there.
var ErrExists = errors.New("already exists")

// ErrRequired is wrapped by Apply of a plan whose host lacks what a Require
// step names.
var ErrRequired = errors.New("required")

// ErrDuplicate is wrapped by Apply of an address that somebody has of whom no
// IPAM plugin knows: another address may do.
var ErrDuplicate = errors.New("is taken")

// A HeldError says that somebody else holds what was asked for: a host
// port, an address.
type HeldError struct {
	Object string // "host port tcp 8080"
	Holder string // the mark of an attachment, or what else a person needs to find it
}

func (e *HeldError) Error() string { return fmt.Sprintf("%s is held by %s", e.Object, e.Holder) }

// undoTime is how long Undo may take: what undoes waits for nobody's lock for long.
const undoTime = 10 * time.Second

// Undo returns the context for taking back what was made: it goes on where ctx is
// done, but not without a limit.
func Undo(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), undoTime)
}

// Apply carries out p in order. If a step fails, or ctx is done before it, what this
// call made is removed again, last first.
func Apply(ctx context.Context, p Plan) error {
	var made []Resource
	for _, s := range p {
		err := ctx.Err()
		if err != nil {
			return errors.Join(fmt.Errorf("before %s: %w", brief(s), err), undo(ctx, made))
		}
		if s.Role == Require {
			if err = observe(ctx, s); err != nil {
				err = fmt.Errorf("%w: %w", ErrRequired, err)
			}
		} else if err = s.Apply(ctx); err != nil {
			err = fmt.Errorf("%s: %w", brief(s), err)
		}
		switch j, joins := s.Resource.(Joiner); {
		case s.Role == Own && !errors.Is(err, ErrExists):
			made = append(made, s.Resource) // also when half made
		case joins && errors.Is(err, ErrExists):
			if err = j.Join(ctx); err != nil {
				err = fmt.Errorf("%s: %w", brief(s), err)
			}
		}
		if err != nil {
			return errors.Join(err, undo(ctx, made))
		}
	}
	return nil
}

func undo(ctx context.Context, made []Resource) error {
	ctx, cancel := Undo(ctx)
	defer cancel()
	return remove(ctx, made, nil)
}

// Check returns every difference between the host and p.
func Check(ctx context.Context, p Plan) error {
	var errs []error
	for _, s := range p {
		errs = append(errs, observe(ctx, s))
	}
	return errors.Join(errs...)
}

// Requirements returns the steps of p that must hold before ADD can succeed.
func (p Plan) Requirements() Plan {
	return slices.DeleteFunc(slices.Clone(p), func(s Step) bool { return s.Role != Require })
}

// Cut divides p before the first step whose object belongs to the attachment.
func (p Plan) Cut() (before, own Plan) {
	at := slices.IndexFunc(p, func(s Step) bool { return s.Role == Own })
	if at < 0 {
		at = len(p)
	}
	return p[:at], p[at:]
}

// Works returns the steps of p that make something: all but Requirements.
func (p Plan) Works() Plan {
	return slices.DeleteFunc(slices.Clone(p), func(s Step) bool { return s.Role == Require })
}

// Found is an owned object that exists, and whose it is.
type Found struct {
	Mark owner.Mark
	Resource
}

// A Scope finds the owned objects of one kind by the mark that each carries.
type Scope interface {
	// Of returns the objects of one attachment. It costs what that attachment
	// owns, not what the host holds, and needs nothing but the mark.
	Of(context.Context, owner.Mark) ([]Found, error)
	// All returns the objects of every attachment.
	All(context.Context) ([]Found, error)
}

// Release removes what the scopes find of one attachment, last scope first. It
// goes on past failures. A RestoreError is none: to try again would not help, and a
// container that cannot be deleted for it would be worse. It goes to warn.
func Release(ctx context.Context, scopes []Scope, m owner.Mark, warn func(...string)) error {
	return prune(ctx, scopes, func(s Scope) ([]Found, error) { return s.Of(ctx, m) }, nil, warn)
}

// Prune removes what the scopes find of any attachment and keep refuses. It
// goes on past failures, as Release does.
func Prune(ctx context.Context, scopes []Scope, keep func(owner.Mark) bool, warn func(...string)) error {
	return prune(ctx, scopes, func(s Scope) ([]Found, error) { return s.All(ctx) }, keep, warn)
}

func prune(ctx context.Context, scopes []Scope, find func(Scope) ([]Found, error), keep func(owner.Mark) bool, warn func(...string)) error {
	var errs []error
	var gone []Resource
	for _, scope := range scopes {
		found, err := find(scope)
		errs = append(errs, err)
		for _, f := range found {
			if keep == nil || !keep(f.Mark) {
				gone = append(gone, f.Resource)
			}
		}
	}
	return errors.Join(append(errs, remove(ctx, gone, warn))...)
}

func observe(ctx context.Context, s Step) error {
	diff, err := s.Observe(ctx)
	if err == nil && diff != Same {
		err = diff
	}
	if err != nil {
		return fmt.Errorf("%s: %w", brief(s), err)
	}
	return nil
}

// brief is the first command of a step, for an error that says what else it is
// about.
func brief(s fmt.Stringer) string {
	first, _, more := strings.Cut(s.String(), " ; ")
	if more {
		first += " ; …"
	}
	return first
}

func remove(ctx context.Context, rs []Resource, warn func(...string)) error {
	var errs []error
	for _, r := range slices.Backward(rs) {
		err := r.Remove(ctx)
		if err == nil {
			continue
		}
		err = fmt.Errorf("removing %s: %w", brief(r), err)
		if lost := new(RestoreError); warn != nil && errors.As(err, &lost) {
			warn(err.Error())
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
