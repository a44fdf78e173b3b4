package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/daemon/filelock"
)

// D6: a problem that stays is one line, however often it is met.
func TestD6ProblemIsLoggedOnce(t *testing.T) {
	var out strings.Builder
	now := time.Unix(0, 0)
	p := NewProblems(slog.New(slog.NewTextHandler(&out, nil)))
	p.now = func() time.Time { return now }
	report := func(about, text string) {
		var err error
		if text != "" {
			err = errors.New(text)
		}
		for range 100 {
			p.Report(about, err)
		}
	}
	lines := func(when string, want ...string) {
		t.Helper()
		got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		out.Reset()
		if got[0] == "" {
			got = nil
		}
		if len(got) != len(want) {
			t.Fatalf("%s: logged %q, want %q", when, got, want)
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("%s: logged %q, want %q", when, got[i], want[i])
			}
		}
	}
	report("store", "")
	lines("nothing was ever wrong")
	report("store", "no etcd")
	report("names", "no etcd")
	lines("it begins", `msg=store error="no etcd"`, `msg=names error="no etcd"`)
	report("store", "")
	report("store", "no etcd")
	report("store", "no leader")
	lines("it changes all the time")
	now = now.Add(while)
	report("store", "no etcd")
	lines("it is the same again")
	report("store", "no leader")
	lines("it has changed", `msg=store error="no leader"`)
	now = now.Add(while)
	report("store", "")
	lines("it is over", `msg="store: over"`)
	p.Forget("store")
	report("store", "no etcd")
	lines("another one of that name", `msg=store error="no etcd"`)
	if p.Forget("store"); len(p.known) != 1 {
		t.Errorf("kept: %v", p.known)
	}
}

// A signal ends the context, and Run returns what the daemon returns. Meanwhile there
// is no second instance.
func TestRunUntilSignal(t *testing.T) {
	lock, done := filepath.Join(t.TempDir(), "run", "lock"), errors.New("done")
	err := Run(lock, func(ctx context.Context, _ *slog.Logger) error {
		if err := Run(lock, nil); !errors.Is(err, filelock.ErrBusy) {
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
