package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/daemon/filelock"
)

// A signal ends the context, and Run returns what the daemon returns. Meanwhile there
// is no second instance.
func TestRunUntilSignal(t *testing.T) {
	lock, done := filepath.Join(t.TempDir(), "run", "lock"), errors.New("done")
	err := Run(lock, func(ctx context.Context, _ *slog.Logger) error {
		if err := Run(lock, nil); !errors.Is(err, filelock.ErrBusy) { //nolint:contextcheck // a daemon's context is that of its signals
			t.Errorf("a second one: %v", err)
		}
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
			return err
		}
		<-ctx.Done()
		return done
	})
	if !errors.Is(err, done) {
		t.Errorf("%v", err)
	}
}

// A loop looks at all at first, and after changes at what they are about; those that
// come together count as one. A round that fails is no end.
func TestLoop(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	woken := make(chan struct{}, 1)
	var rounds []bool
	Loop{
		Woken: woken, Settle: time.Millisecond, Interval: time.Hour, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Reconcile: func(_ context.Context, all bool) error {
			if rounds = append(rounds, all); len(rounds) == 3 {
				stop()
			}
			woken <- struct{}{}
			return errors.New("again")
		},
	}.Run(ctx)
	if len(rounds) != 3 || !rounds[0] || rounds[1] || rounds[2] {
		t.Errorf("rounds of all: %v", rounds)
	}
}
