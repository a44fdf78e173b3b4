package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/owner"
	"github.com/dockyard-cni/dockyard/pkg/resolver"
	"github.com/dockyard-cni/dockyard/pkg/zone"
)

// A desk is the daemon's socket, for root alone. A client writes one line, and
// reads until the end:
//
//	state     the state, as JSON
//	metrics   counters, as Prometheus takes them
//	serve M   nothing, once the container of the attachment with mark M has its sockets
type desk struct {
	path     string
	service  *resolver.Service
	listener net.Listener
}

func socketPath(store zone.Store) string { return filepath.Join(store.Root, "daemon.sock") }

func newDesk(store zone.Store, service *resolver.Service) *desk {
	return &desk{path: socketPath(store), service: service}
}

// renew opens the socket, or opens it again if somebody has deleted it.
func (d *desk) renew(ctx context.Context) error {
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

func (d *desk) close() {
	if d.listener != nil {
		_ = d.listener.Close()
	}
}

func (d *desk) serve(ctx context.Context, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed
		}
		go func() {
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			line, err := bufio.NewReader(io.LimitReader(c, 2*owner.MaxMark)).ReadString('\n')
			if err == nil {
				_ = d.answer(ctx, c, strings.TrimSpace(line))
			}
		}()
	}
}

func (d *desk) answer(ctx context.Context, w io.Writer, question string) error {
	switch question {
	case "state":
		return json.NewEncoder(w).Encode(d.service.State())
	case "metrics":
		return d.service.State().Metrics(w)
	}
	if mark, ok := strings.CutPrefix(question, "serve "); ok && owner.Mark(mark).Valid() {
		return d.service.Prepare(ctx, owner.Mark(mark))
	}
	return nil
}

const patience = 5 * time.Second

// daemonAnswers fails if no daemon runs.
func daemonAnswers(store zone.Store) error {
	c, err := net.DialTimeout("unix", socketPath(store), patience)
	if err != nil {
		return err
	}
	return c.Close()
}

// ask asks the daemon that runs.
func ask(store zone.Store, question string, patience time.Duration) ([]byte, error) {
	c, err := net.DialTimeout("unix", socketPath(store), patience)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, question+"\n"); err != nil {
		return nil, err
	}
	return io.ReadAll(c)
}
