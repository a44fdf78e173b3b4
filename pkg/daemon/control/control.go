// Package control is the control socket of a daemon: a Unix-domain socket that only
// root may use, with its server and its client. A client writes one line, and reads
// the answer until the end of the stream; or it keeps the connection open for as
// long as what it asked for is to last.
//
// The package does not interpret requests: the plugin and its daemon agree on them.
package control

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxLine = 4096            // bytes of a question
	slow    = 5 * time.Second // a client that takes longer to ask is left
)

// A Desk is the daemon's end.
type Desk struct {
	path     string
	answer   func(ctx context.Context, client io.ReadWriter, question string) error
	listener net.Listener
}

// New returns a desk at a path that opens with Renew. It gives each question to
// answer, on a goroutine of its own; what that writes goes to the client, and
// where it reads, that ends with the client. No call lasts longer than the context
// of the Renew that opened the socket.
func New(path string, answer func(ctx context.Context, client io.ReadWriter, question string) error) *Desk {
	return &Desk{path: path, answer: answer}
}

// Renew opens the socket, or opens it again if somebody has deleted it.
func (d *Desk) Renew(ctx context.Context) error {
	if d.listener != nil {
		if _, err := os.Stat(d.path); err == nil {
			return nil
		}
		_ = d.listener.Close()
	}
	if err := os.Remove(d.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", d.path)
	if err != nil {
		return err
	}
	if err := os.Chmod(d.path, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	d.listener = l
	go d.serve(ctx, l)
	return nil
}

// Close closes the socket.
func (d *Desk) Close() {
	if d.listener != nil {
		_ = d.listener.Close()
	}
}

func (d *Desk) serve(ctx context.Context, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed
		}
		go d.attend(ctx, c)
	}
}

func (d *Desk) attend(ctx context.Context, c net.Conn) {
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	_ = c.SetDeadline(time.Now().Add(slow))
	line, err := bufio.NewReader(io.LimitReader(c, maxLine)).ReadString('\n')
	if err == nil {
		_ = c.SetDeadline(time.Time{})
		_ = d.answer(ctx, c, strings.TrimSpace(line))
	}
}

// Ask asks the daemon at a path, and waits for each part of its answer as long as
// patience lasts. The error is that of connect(2) where no daemon runs.
func Ask(path, question string, patience time.Duration) ([]byte, error) {
	c, err := Begin(path, question, patience)
	if err != nil {
		return nil, err
	}
	defer c.End()
	return io.ReadAll(c)
}

// A Call is a question that a daemon has been asked.
type Call struct{ c *os.File }

// Begin asks, and does not wait.
func Begin(path, question string, patience time.Duration) (*Call, error) {
	c, err := dial(path, patience)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c, question+"\n"); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &Call{c}, nil
}

// Line waits for a line, which is all of the answer.
func (c *Call) Line() (string, error) { return bufio.NewReader(c).ReadString('\n') }

// Read waits for a part of the answer. The error wraps os.ErrDeadlineExceeded where
// patience was too short.
func (c *Call) Read(b []byte) (int, error) {
	n, err := c.c.Read(b)
	if errors.Is(err, unix.EAGAIN) { // see socket(7) on SO_RCVTIMEO
		err = &os.PathError{Op: "read", Path: c.c.Name(), Err: os.ErrDeadlineExceeded}
	}
	return n, err
}

// End ends the call, which the daemon notices.
func (c *Call) End() { _ = c.c.Close() }

// Open fails if nobody listens at a path.
func Open(path string) error {
	c, err := dial(path, slow)
	if err != nil {
		return err
	}
	return c.Close()
}

// dial connects to the socket at a path. The connection is one that blocks, for as
// long as patience lasts: a plugin does nothing else meanwhile, and to have it polled
// costs more than the question.
func dial(path string, patience time.Duration) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	c, limit := os.NewFile(uintptr(fd), path), unix.NsecToTimeval(patience.Nanoseconds())
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} { // the latter is of connect(2) too
		if err == nil {
			err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &limit)
		}
	}
	if err == nil {
		err = connect(fd, path)
	}
	if err != nil {
		return nil, errors.Join(&os.PathError{Op: "connect", Path: path, Err: err}, c.Close())
	}
	return c, nil
}

// connect goes on where a signal of Go's scheduler interrupts it.
func connect(fd int, path string) (err error) {
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	return err
}
