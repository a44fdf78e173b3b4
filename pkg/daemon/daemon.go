// Package daemon is the frame of a daemon: one instance a host, signals, a loop that
// reconciles soon after a change and now and then in any case. Its control socket,
// what it watches and how it logs problems are the packages control, watch and
// faultlog.
package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/daemon/faultlog"
	"github.com/dockyard-cni/dockyard/pkg/daemon/filelock"
)

// Run runs a daemon until it ends by itself, or SIGTERM or SIGINT ends its context; a
// second signal ends the process. Where lock is the path of a file, a second instance
// is refused. The log goes to stderr.
func Run(lock string, run func(context.Context, *slog.Logger) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)
	if lock != "" {
		release, err := filelock.Try(lock)
		if err != nil {
			return fmt.Errorf("another daemon runs: %w", err)
		}
		defer release()
	}
	return run(ctx, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// A Loop calls Reconcile at once, soon after Woken has received, and once in every
// Interval. An event only tells that there may be something to do; what that is
// Reconcile finds by looking. A problem of Reconcile's is logged, and tried again.
type Loop struct {
	Woken    <-chan struct{}
	Settle   time.Duration // how long changes that come together are waited for
	Interval time.Duration
	Log      *slog.Logger
	// Reconcile is told whether it is called for a change, or for all that nobody
	// tells of.
	Reconcile func(ctx context.Context, all bool) error
}

// Run runs the loop until ctx ends.
func (l Loop) Run(ctx context.Context) {
	faults := faultlog.Log{Log: l.Log, Wrong: "not reconciled", Right: "reconciled"}
	interval := time.NewTimer(0)
	defer interval.Stop()
	var settled <-chan time.Time
	for {
		all := false
		select {
		case <-ctx.Done():
			return
		case <-l.Woken:
			settled = time.After(l.Settle)
			continue
		case <-settled:
		case <-interval.C:
			all = true
			interval.Reset(l.Interval)
		}
		if err := l.Reconcile(ctx, all); ctx.Err() == nil {
			faults.Tell(err)
		}
	}
}
