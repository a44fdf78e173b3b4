package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/desk"
	"github.com/dockyard-cni/dockyard/pkg/owner"
	"github.com/dockyard-cni/dockyard/pkg/state"
)

// A served has the daemon open its sockets in the container before ADD returns, so
// that the first query is not refused. It is asked before anything else is done,
// and works while the plugin does. Without a daemon, or with one that is busy,
// there is nothing to do: it finds the container by itself.
type served struct {
	desk    string // the daemon's
	mark    owner.Mark
	netns   string
	capture bool
	call    *desk.Call
}

// enough is how long ADD waits for the daemon.
const enough = 100 * time.Millisecond

// question is for the daemon: whom to serve, with or without capture, and where.
func (s *served) question() string {
	return fmt.Sprintf("serve %s %t %s", s.mark, s.capture, s.netns)
}

// asked begins the call.
type asked struct{ *served }

// Key implements state.Resource.
func (s asked) Key() string { return "resolver of " + string(s.mark) }

func (s asked) String() string {
	return fmt.Sprintf("(echo %s ; sleep inf) | nc -U %s &", s.question(), s.desk)
}

// Observe implements state.Resource. CHECK does not ask for a daemon, which may
// be away for a moment.
func (s asked) Observe(context.Context) (state.Diff, error) { return state.Same, nil }

// Apply implements state.Resource.
func (s asked) Apply(context.Context) error {
	s.call, _ = desk.Begin(s.desk, s.question(), enough)
	return nil
}

// Remove implements state.Resource: the daemon finds out by itself.
func (s asked) Remove(context.Context) error { return nil }

// answered is the end of the call.
type answered struct{ asked }

// Key implements state.Resource.
func (s answered) Key() string { return "answer for " + string(s.mark) }

func (s answered) String() string { return "# until it says: ready" }

// Apply implements state.Resource.
func (s answered) Apply(context.Context) error {
	if s.call != nil {
		_, _ = s.call.Line()
		s.call.End()
	}
	return nil
}
