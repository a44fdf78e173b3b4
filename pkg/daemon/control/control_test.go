package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// open has a desk answer at a path of the test's own.
func open(t *testing.T, answer func(ctx context.Context, client io.ReadWriter, question string) error) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "sock")
	d := New(path, answer)
	if err := d.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return path
}

func TestAsk(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 1<<20)
	path := open(t, func(_ context.Context, client io.ReadWriter, question string) error {
		_, err := client.Write(append([]byte(question+"\n"), long...))
		return err
	})
	got, err := Ask(path, "what?", testnet.Patience)
	if err != nil || !bytes.Equal(got, append([]byte("what?\n"), long...)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

// Who asks waits no longer than it has patience, wherever nobody answers.
func TestPatience(t *testing.T) {
	const patience = 50 * time.Millisecond
	mute := open(t, func(ctx context.Context, _ io.ReadWriter, _ string) error {
		<-ctx.Done()
		return nil
	})
	dead := filepath.Join(t.TempDir(), "sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: dead}), unix.Close(fd))
	}
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		mute: os.ErrDeadlineExceeded, dead: unix.ECONNREFUSED, filepath.Join(t.TempDir(), "none"): os.ErrNotExist,
	} {
		start := time.Now()
		if _, err := Ask(path, "what?", patience); !errors.Is(err, want) || time.Since(start) > testnet.Patience {
			t.Errorf("%v after %v, want %v", err, time.Since(start), want)
		}
	}
}

// A call lasts until its client ends it, or dies.
func TestCall(t *testing.T) {
	ended := make(chan struct{})
	path := open(t, func(_ context.Context, client io.ReadWriter, _ string) error {
		_, _ = io.WriteString(client, "ready\n")
		_, _ = io.Copy(io.Discard, client)
		close(ended)
		return nil
	})
	c, err := Begin(path, "hold", testnet.Patience)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := c.Line(); line != "ready\n" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
	select {
	case <-ended:
		t.Error("the call ended by itself")
	case <-time.After(20 * time.Millisecond):
	}
	c.End()
	select {
	case <-ended:
	case <-time.After(testnet.Patience):
		t.Error("the daemon has not noticed")
	}
}

// With the daemon its calls end, whatever they wait for.
func TestEnd(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	d := New(filepath.Join(t.TempDir(), "sock"), func(_ context.Context, client io.ReadWriter, _ string) error {
		stop()
		_, err := io.Copy(io.Discard, client)
		return err
	})
	if err := d.Renew(ctx); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got, err := Ask(d.path, "hold", testnet.Patience); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
}
