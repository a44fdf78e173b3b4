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
	maxLine = 4096                   // bytes of a request
	slow    = 5 * time.Second        // a client that takes longer to ask is left
	backoff = 100 * time.Millisecond // after an error of accept(2)
)

// A Handler answers a request. What it writes goes to the client, and where it reads,
// that ends with the client.
type Handler func(ctx context.Context, client io.ReadWriter, request string) error

// A Server is the daemon's end.
type Server struct {
	path     string
	handle   Handler
	listener net.Listener
	socket   os.FileInfo // what is at path as long as it is ours
}

// New returns a server at a path, which begins with Listen. Each request is handled on
// a goroutine of its own. No connection outlives the context of the Listen that opened
// the socket.
func New(path string, handle Handler) *Server { return &Server{path: path, handle: handle} }

// Listen opens the socket, or opens it again if somebody has deleted it, or has put
// something else at its path.
func (s *Server) Listen(ctx context.Context) error {
	if s.listener != nil {
		if st, err := os.Stat(s.path); err == nil && os.SameFile(st, s.socket) {
			return nil
		}
		s.Close()
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", s.path)
	if err != nil {
		return err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it may be another's by then
	if s.socket, err = os.Stat(s.path); err == nil {
		err = os.Chmod(s.path, 0o600)
	}
	if err != nil {
		return errors.Join(err, l.Close())
	}
	s.listener = l
	go s.serve(ctx, l)
	return nil
}

// Close closes the socket, and takes it away if it is still ours.
func (s *Server) Close() {
	if s.listener == nil {
		return
	}
	if st, err := os.Stat(s.path); err == nil && os.SameFile(st, s.socket) {
		_ = os.Remove(s.path)
	}
	_ = s.listener.Close()
	s.listener = nil
}

// serve accepts connections until the socket is closed. Any other error, such as that
// of a process without a free descriptor, passes.
func (s *Server) serve(ctx context.Context, l net.Listener) {
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			go s.attend(ctx, c)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			select {
			case <-time.After(backoff):
			case <-ctx.Done():
				return
			}
		}
	}
}

func (s *Server) attend(ctx context.Context, c net.Conn) {
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	_ = c.SetDeadline(time.Now().Add(slow))
	line, err := bufio.NewReader(io.LimitReader(c, maxLine)).ReadString('\n')
	if err == nil {
		_ = c.SetDeadline(time.Time{})
		_ = s.handle(ctx, c, strings.TrimSpace(line))
	}
}

// Ask sends a request to the daemon at a path, and waits for each part of its answer
// as long as patience lasts. The error is that of connect(2) where no daemon runs.
func Ask(path, request string, patience time.Duration) ([]byte, error) {
	c, err := Begin(path, request, patience)
	if err != nil {
		return nil, err
	}
	defer c.End()
	return io.ReadAll(c)
}

// A Call is a request that a daemon has got.
type Call struct{ c *os.File }

// Begin sends a request, and does not wait.
func Begin(path, request string, patience time.Duration) (*Call, error) {
	c, err := dial(path, patience)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c, request+"\n"); err != nil {
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

// Probe fails if nobody listens at a path.
func Probe(path string) error {
	c, err := dial(path, slow)
	if err != nil {
		return err
	}
	return c.Close()
}

// dial connects to the socket at a path. The connection is one that blocks, for as
// long as patience lasts: a plugin does nothing else meanwhile, and to have it polled
// costs more than the request.
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
