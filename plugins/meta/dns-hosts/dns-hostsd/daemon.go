package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/daemon/control"
	"github.com/dockyard-cni/dockyard/pkg/dns/resolver"
	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

const (
	resolvConf = "/etc/resolv.conf"
	daemonLock = "/run/dockyard/dns-hosts.lock"
	settle     = 5 * time.Millisecond // what changes together is looked at once
	sweep      = time.Second          // all is looked at, as what nobody tells of is to be seen too
)

// daemon serves all containers until a signal comes. Events only tell it where to
// look; what there is to do it finds by looking.
func daemon() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	unlock, err := alone()
	if err != nil {
		return err
	}
	defer unlock()
	store := zone.Default()
	service := resolver.New(store, resolvConf, log)
	defer service.Close()
	w, err := newWatcher(store)
	if err != nil {
		return err
	}
	defer w.close()
	d := control.New(store.Desk(), answerer{service, w}.answer)
	defer d.Close()
	return loop(ctx, log, service, w, d)
}

// loop looks soon where something has changed, and now and then everywhere.
func loop(ctx context.Context, log *slog.Logger, service *resolver.Service, w *watcher, d *control.Desk) error {
	all := time.NewTimer(0)
	var soon <-chan time.Time
	for {
		var changed []string // anything
		select {
		case <-ctx.Done():
			return nil
		case <-w.woken:
			soon = time.After(settle)
			continue
		case <-soon:
			changed = w.take()
		case <-all.C:
		}
		if len(changed) == 0 {
			all.Reset(sweep)
			if err := errors.Join(w.renew(service), d.Renew(ctx)); err != nil {
				log.Warn("cannot watch", "error", err)
			}
		}
		if err := service.Look(ctx, changed...); err != nil {
			log.Warn("cannot read records; nothing changes", "error", err)
		}
	}
}

// An answerer answers at the desk:
//
//	state           the state, as JSON
//	metrics         counters, as Prometheus takes them
//	serve M C PATH  "ready", once the container of the attachment with mark M has its
//	                sockets in the namespace of that path, with capture if C is true;
//	                they stay for as long as the client, and then if there is a record
type answerer struct {
	service *resolver.Service
	watcher *watcher
}

func (a answerer) answer(ctx context.Context, client io.ReadWriter, question string) error {
	switch question {
	case "state":
		return json.NewEncoder(client).Encode(a.service.State())
	case "metrics":
		return a.service.State().Metrics(client)
	}
	words := strings.SplitN(question, " ", 4)
	if len(words) != 4 || words[0] != "serve" || !owner.Mark(words[1]).Valid() {
		return nil
	}
	return a.serve(ctx, client, owner.Mark(words[1]), words[2] == "true", words[3])
}

func (a answerer) serve(ctx context.Context, client io.ReadWriter, m owner.Mark, capture bool, netns string) error {
	done, err := a.service.Prepare(ctx, m, netns, capture)
	if err != nil {
		return err
	}
	_, err = io.WriteString(client, "ready\n")
	_, readErr := io.Copy(io.Discard, client)
	done()
	a.watcher.concerns(m)
	return errors.Join(err, readErr)
}

// alone makes sure that no other daemon runs.
func alone() (unlock func(), err error) {
	if err = os.MkdirAll(filepath.Dir(daemonLock), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(daemonLock, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another daemon runs: lock %s: %w", daemonLock, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// A watcher tells where something may have changed.
type watcher struct {
	store zone.Store
	fs    *fsnotify.Watcher
	woken chan struct{} // since the last take

	mu      sync.Mutex
	changed map[string]bool // paths
}

func newWatcher(store zone.Store) (*watcher, error) {
	fs, err := fsnotify.NewBufferedWatcher(256)
	if err != nil {
		return nil, err
	}
	w := &watcher{store: store, fs: fs, woken: make(chan struct{}, 1), changed: map[string]bool{}}
	go func() {
		for e := range fs.Events {
			w.note(e.Name)
		}
	}()
	go func() {
		for range fs.Errors { // events were lost
			w.note("")
		}
	}()
	return w, nil
}

// note takes note of a change, and wakes the daemon at the first. Of the directories
// of the store themselves, and of no path, it may be one of anything.
func (w *watcher) note(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.changed) == 0 {
		w.woken <- struct{}{}
	}
	w.changed[path] = true
}

// concerns notes that something may have changed of the container with that mark.
func (w *watcher) concerns(m owner.Mark) {
	w.note(filepath.Join(w.store.Containers(), m.Container()))
}

// take returns the paths that were noted since it was last called, after which there
// were some; none where anything may have changed.
func (w *watcher) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer clear(w.changed)
	if w.changed[""] || w.changed[w.store.Containers()] || w.changed[w.store.Remote()] {
		return nil
	}
	return slices.Collect(maps.Keys(w.changed))
}

func (w *watcher) close() { _ = w.fs.Close() }

// renew watches the records, this host's and others', and where namespaces have
// their names: both may be deleted and made again.
func (w *watcher) renew(service *resolver.Service) error {
	want := map[string]bool{w.store.Containers(): true, w.store.Remote(): true}
	for dir := range want {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, dir := range service.NamespaceDirs() {
		if !strings.HasPrefix(dir, "/proc/") { // tells nothing
			want[dir] = true
		}
	}
	var errs []error
	for _, dir := range w.fs.WatchList() {
		if !want[dir] {
			errs = append(errs, w.fs.Remove(dir))
		}
	}
	for dir := range want {
		if err := w.fs.Add(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
