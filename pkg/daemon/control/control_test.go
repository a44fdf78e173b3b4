package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// open has a server answer at a path of the test's own.
func open(t *testing.T, answer func(ctx context.Context, client io.ReadWriter, request string) error) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "sock")
	s := New(path, answer)
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return path
}

func TestAsk(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 1<<20)
	path := open(t, func(_ context.Context, client io.ReadWriter, request string) error {
		_, err := client.Write(append([]byte(request+"\n"), long...))
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
	s := New(filepath.Join(t.TempDir(), "sock"), func(_ context.Context, client io.ReadWriter, _ string) error {
		stop()
		_, err := io.Copy(io.Discard, client)
		return err
	})
	if err := s.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := Ask(s.path, "hold", testnet.Patience); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
}

// D1: a socket goes on after an error of accept, such as that of a process that has no
// free descriptor for a moment.
func TestD1AcceptFails(t *testing.T) {
	failing := &failing{fails: 3}
	s := New("", func(_ context.Context, client io.ReadWriter, request string) error {
		_, err := io.WriteString(client, request)
		return err
	})
	path := filepath.Join(t.TempDir(), "sock")
	var err error
	if failing.Listener, err = net.Listen("unix", path); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		s.serve(t.Context(), failing)
		close(ended)
	}()
	if got, err := Ask(path, "again", testnet.Patience); err != nil || string(got) != "again" {
		t.Errorf("%q, %v", got, err)
	}
	_ = failing.Close()
	<-ended
}

// failing is a listener whose first few Accepts fail.
type failing struct {
	net.Listener
	fails int
}

func (f *failing) Accept() (net.Conn, error) {
	if f.fails--; f.fails >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", unix.EMFILE)}
	}
	return f.Listener.Accept()
}

// A socket that somebody has deleted, or replaced, is opened again.
func TestListenAgain(t *testing.T) {
	s := New(filepath.Join(t.TempDir(), "sock"), func(_ context.Context, client io.ReadWriter, request string) error {
		_, err := io.WriteString(client, request)
		return err
	})
	defer s.Close()
	for name, spoil := range map[string]func() error{
		"nobody":         func() error { return nil },
		"who deletes it": func() error { return os.Remove(s.path) },
		"who replaces it": func() error {
			other, err := net.Listen("unix", s.path+"2")
			if err != nil {
				return err
			}
			defer func() { _ = other.Close() }()
			return os.Rename(s.path+"2", s.path)
		},
	} {
		if err := s.Listen(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if err := s.Listen(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := Ask(s.path, "there", testnet.Patience); err != nil || string(got) != "there" {
			t.Errorf("after %s: %q, %v", name, got, err)
		}
	}
}
