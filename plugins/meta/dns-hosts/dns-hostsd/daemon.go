package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/daemon"
	"github.com/dockyard-cni/dockyard/pkg/daemon/control"
	"github.com/dockyard-cni/dockyard/pkg/daemon/watch"
	"github.com/dockyard-cni/dockyard/pkg/dns/resolver"
	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

const (
	resolvConf = "/etc/resolv.conf"
	daemonLock = "/run/dockyard/dns-hosts.lock"
	settle     = 5 * time.Millisecond
	interval   = time.Second
)

// serve serves all containers until ctx ends. Events only tell it where to look; what
// there is to do it finds by looking.
func serve(ctx context.Context, log *slog.Logger) error {
	store := zone.Default()
	service := resolver.New(store, resolvConf, log)
	defer service.Close()
	changes, err := watch.NewSet()
	if err != nil {
		return err
	}
	defer changes.Close()
	server := control.New(store.Socket(), handler{service, store, changes}.handle)
	defer server.Close()
	daemon.Loop{
		Woken: changes.Woken(), Settle: settle, Interval: interval, Log: log,
		Reconcile: func(ctx context.Context, all bool) error {
			var changed []string // anything
			if !all {
				changed = changes.Take()
			}
			var err error
			if len(changed) == 0 {
				err = errors.Join(keep(changes, store, service), server.Listen(ctx))
			}
			return errors.Join(err, service.Reconcile(ctx, changed...))
		},
	}.Run(ctx)
	return nil
}

// keep watches the records, this host's and others', and where namespaces have their
// names: both may be deleted and made again.
func keep(changes *watch.Set, store zone.Store, service *resolver.Service) error {
	dirs := []string{store.Containers(), store.Remote()}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, dir := range service.NamespaceDirs() {
		if !strings.HasPrefix(dir, "/proc/") { // tells nothing
			dirs = append(dirs, dir)
		}
	}
	return changes.Keep(dirs...)
}

// A handler handles what the control socket is asked:
//
//	state           the state, as JSON
//	metrics         counters, as Prometheus takes them
//	serve M C PATH  "ready", once the container of the attachment with mark M has its
//	                sockets in the namespace of that path, with capture if C is true;
//	                they stay for as long as the client, and then if there is a record
type handler struct {
	service *resolver.Service
	store   zone.Store
	changes *watch.Set
}

func (h handler) handle(ctx context.Context, client io.ReadWriter, request string) error {
	switch request {
	case "state":
		return json.NewEncoder(client).Encode(h.service.State())
	case "metrics":
		return h.service.State().Metrics(client)
	}
	words := strings.SplitN(request, " ", 4)
	if len(words) != 4 || words[0] != "serve" || !owner.Mark(words[1]).Valid() {
		return nil
	}
	return h.serve(ctx, client, owner.Mark(words[1]), words[2] == "true", words[3])
}

func (h handler) serve(ctx context.Context, client io.ReadWriter, m owner.Mark, capture bool, netns string) error {
	done, err := h.service.Prepare(ctx, m, netns, capture)
	if err != nil {
		return err
	}
	_, err = io.WriteString(client, "ready\n")
	_, readErr := io.Copy(io.Discard, client)
	done()
	h.changes.Note(filepath.Join(h.store.Containers(), m.Container()))
	return errors.Join(err, readErr)
}
