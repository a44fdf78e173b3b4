// Package resolver answers the DNS queries of containers, by what a zone knows
// and otherwise by asking other servers. Its sockets are inside of the containers'
// network namespaces, at 127.0.0.11, so it serves whatever network they are on
// and is reached by nobody else.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/daemon/faultlog"
	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A Service serves all containers that a store has records of.
type Service struct {
	store  zone.Store
	reader *zone.Reader
	out    *forwarder
	log    *slog.Logger

	reconciling sync.Mutex // of what one Reconcile at a time uses
	catalog     *zone.Catalog
	lost        map[owner.Mark]loss // the records that went lately
	failed      map[string]failure
	// What is wrong with records, with those of other hosts, and with containers.
	badRecords, badRemote, unserved faultlog.Log

	mu         sync.Mutex         // of what follows; never held for long, as ADD waits for it
	servers    map[string]*server // by container, as marks have it
	reconciles int                // that have begun
}

// A failure is a container that could not be served, and when to try again.
type failure struct {
	view *zone.View
	at   time.Time
	err  error
}

// A loss is a record that has gone, and since when.
type loss struct {
	record *zone.Record
	at     time.Time
}

// memory is how long a record that has gone may turn out to have been the first of
// all: who deletes the whole directory deletes one file after the other.
const memory = 10 * time.Second

// retry is how long a container that cannot be served is left alone.
const retry = 5 * time.Second

// New returns a service that serves nobody before the first Reconcile. resolvConf is
// the path of the host's resolv.conf(5).
func New(store zone.Store, resolvConf string, log *slog.Logger) *Service {
	return &Service{
		store: store, reader: store.Reader(), out: newForwarder(log, resolvConf), log: log,
		catalog: zone.NewCatalog(), servers: map[string]*server{}, failed: map[string]failure{},
		lost:       map[owner.Mark]loss{},
		badRecords: faultlog.Log{Log: log, Wrong: "records are left out", Right: "no record is left out"},
		badRemote:  faultlog.Log{Log: log, Wrong: "names of other hosts are left out", Right: "no name of another host is left out"},
		unserved:   faultlog.Log{Log: log, Wrong: "containers are not served", Right: "all containers are served"},
	}
}

// Reconcile serves the containers by what their records and namespaces are now: those
// that something concerns which has changed at one of these paths, as a watch tells;
// without a path, all. If records cannot be read, nothing changes. A container that
// cannot be served does no harm to the others.
func (s *Service) Reconcile(ctx context.Context, changed ...string) error {
	s.reconciling.Lock()
	defer s.reconciling.Unlock()
	concerned, all := s.concerned(changed)
	if len(concerned) == 0 && !all {
		return nil
	}
	round := s.begin()
	found, wiped, err := s.read(ctx, concerned)
	if err != nil {
		return err
	}
	all = all || wiped
	inodes := s.learn(found, all)
	there := s.there(found, all)
	// A namespace lives as long as our sockets are in it, so it is the path that
	// tells whether the container does.
	for name, srv := range there {
		if s.catalog.View(name) != nil && !srv.in(inodes[name]) && !s.preparedSince(round, srv) {
			s.stop(name)
		}
	}
	for name := range found {
		if v := s.catalog.View(name); v != nil {
			s.serve(ctx, name, v)
		} else {
			delete(s.failed, name)
		}
	}
	var failures []error
	for _, name := range slices.Sorted(maps.Keys(s.failed)) {
		failures = append(failures, fmt.Errorf("%s: %w", name, s.failed[name].err))
	}
	s.unserved.Tell(faultlog.Some(failures))
	for name, srv := range there {
		if s.catalog.View(name) == nil && !s.preparedSince(round, srv) {
			s.detach(ctx, name, srv)
		}
	}
	return nil
}

// learn brings the catalog up to date with records of containers, and where all have
// been read with those of other hosts. It returns the inodes of the containers'
// namespaces.
func (s *Service) learn(found map[string][]*zone.Record, all bool) map[string]uint64 {
	inodes := make(map[string]uint64, len(found))
	for name, records := range found {
		s.miss(name, records)
		records, inodes[name] = living(records)
		s.catalog.Set(name, records)
	}
	if all {
		maps.DeleteFunc(s.lost, func(_ owner.Mark, l loss) bool { return time.Since(l.at) > memory })
		remote, err := s.reader.Remote()
		s.badRemote.Tell(err)
		s.catalog.SetRemote(remote)
	}
	return inodes
}

// miss takes note of the records that a container has no more, or has again.
func (s *Service) miss(container string, records []*zone.Record) {
	if v := s.catalog.View(container); v != nil {
		for _, r := range v.Records {
			if !slices.Contains(records, r) {
				s.lost[r.Mark] = loss{r, time.Now()}
			}
		}
	}
	for _, r := range records {
		delete(s.lost, r.Mark)
	}
}

// concerned are the containers that changes at these paths are about: a container's
// directory, or the path of its namespace. What other hosts tell is about all.
func (s *Service) concerned(changed []string) (containers []string, all bool) {
	for _, path := range changed {
		switch dir := filepath.Dir(path); dir {
		case s.store.Containers():
			containers = append(containers, filepath.Base(path))
		case s.store.Remote():
			all = true
		default:
			containers = append(containers, s.reader.In(path)...)
		}
	}
	if all || len(changed) == 0 {
		return nil, true
	}
	return containers, false
}

// begin returns the number of this round.
func (s *Service) begin() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reconciles++
	return s.reconciles
}

// there are the servers of the containers that were looked at.
func (s *Service) there(found map[string][]*zone.Record, all bool) map[string]*server {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all {
		return maps.Clone(s.servers)
	}
	servers := map[string]*server{}
	for name := range found {
		if srv := s.servers[name]; srv != nil {
			servers[name] = srv
		}
	}
	return servers
}

// preparedSince reports whether an ADD that has asked for a server goes on, or has
// ended since a round began: that may not have seen its record.
func (s *Service) preparedSince(round int, srv *server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return srv.adding > 0 || srv.prepared >= round
}

// read reads the records of these containers; all, if somebody has deleted the whole
// directory.
func (s *Service) read(ctx context.Context, containers []string) (found map[string][]*zone.Record, wiped bool, err error) {
	found, wiped, err = s.reader.Read(containers...)
	if err != nil {
		return nil, false, err
	}
	if wiped {
		s.restore(ctx, found)
		if found, _, err = s.reader.Read(); err != nil {
			return nil, false, err
		}
	}
	if wiped || len(containers) == 0 {
		for name := range s.catalog.Views() {
			if _, ok := found[name]; !ok { // it went while a round failed
				found[name] = nil
			}
		}
		var bad []error
		for _, m := range slices.Sorted(maps.Keys(s.reader.Bad)) {
			bad = append(bad, fmt.Errorf("%s: %w", m, s.reader.Bad[m]))
		}
		s.badRecords.Tell(faultlog.Some(bad))
	}
	return found, wiped, nil
}

// living leaves out those records of a container whose namespace is gone: what
// nobody answers at is not to be found. It returns the inode of that of the others.
func living(records []*zone.Record) (out []*zone.Record, inode uint64) {
	for _, r := range records {
		if i := r.Inode(); i != 0 {
			out, inode = append(out, r), i
		}
	}
	return out, inode
}

// serve begins to serve a container, or goes on with what has changed.
func (s *Service) serve(ctx context.Context, name string, v *zone.View) {
	if f, ok := s.failed[name]; ok && f.view == v && time.Since(f.at) < retry {
		return
	}
	srv := s.server(name, v.Records[0].NetNS)
	if old := srv.scope.Load(); old != nil && old.View == v {
		return
	}
	delete(s.failed, name)
	if err := srv.open(ctx, v.Capture(), v.Records); err != nil {
		s.failed[name] = failure{v, time.Now(), err}
		s.stop(name)
		return
	}
	if srv.scope.Swap(newScope(v)) == nil {
		srv.start()
	}
}

// server returns the server of a container, new if there is none.
func (s *Service) server(name, path string) *server {
	s.mu.Lock()
	defer s.mu.Unlock()
	srv := s.servers[name]
	if srv == nil {
		srv = newServer(path, s.out)
		s.servers[name] = srv
	}
	return srv
}

// Prepare opens the sockets of the container of an attachment, before its record
// is there: its first queries wait for the Reconcile that finds it. Until done is called
// they stay, with or without a record.
func (s *Service) Prepare(ctx context.Context, m owner.Mark, netns string, capture bool) (done func(), err error) {
	name := m.Container()
	var st unix.Stat_t
	if err := unix.Stat(netns, &st); err != nil {
		return nil, err
	}
	srv := s.server(name, netns)
	if !srv.in(st.Ino) { // it was one of the same name
		s.stop(name)
		srv = s.server(name, netns)
	}
	s.adding(srv, 1)
	if err := srv.open(ctx, capture, nil); err != nil {
		s.adding(srv, -1)
		return nil, err
	}
	return func() { s.adding(srv, -1) }, nil
}

// adding notes that one more ADD, or one less, needs a server, and during which round.
func (s *Service) adding(srv *server, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	srv.adding += n
	srv.prepared = s.reconciles
}

// stop ends the server of a container, if there is one.
func (s *Service) stop(name string) {
	s.mu.Lock()
	srv := s.servers[name]
	delete(s.servers, name)
	s.mu.Unlock()
	if srv != nil {
		s.out.forget(name)
		srv.close()
	}
}

// detach ends the server of a container that may live on: its rules go.
func (s *Service) detach(ctx context.Context, name string, srv *server) {
	if err := srv.withdraw(context.WithoutCancel(ctx)); err != nil {
		s.log.Warn("cannot remove rules", "container", name, "error", err)
	}
	s.stop(name)
}

// restore writes the records again that somebody has deleted with the whole
// directory, of attachments that are still there.
func (s *Service) restore(ctx context.Context, found map[string][]*zone.Record) {
	for name := range s.catalog.Views() {
		s.miss(name, found[name])
	}
	for m, l := range s.lost {
		if !attached(l.record) {
			continue
		}
		err := (zone.Entry{Store: s.store, Record: *l.record}).Apply(ctx)
		if err != nil && !errors.Is(err, engine.ErrExists) {
			s.log.Warn("cannot restore", "mark", m, "error", err)
		}
	}
}

// Close ends all servers, and leaves the rules: the next daemon makes them its.
func (s *Service) Close() {
	s.reconciling.Lock()
	defer s.reconciling.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, srv := range s.servers {
		delete(s.servers, name)
		srv.close()
	}
}

// NamespaceDirs lists the directories in which the namespaces of containers have
// their names.
func (s *Service) NamespaceDirs() []string {
	s.reconciling.Lock()
	defer s.reconciling.Unlock()
	dirs := map[string]bool{}
	for _, v := range s.catalog.Views() {
		dirs[filepath.Dir(v.Records[0].NetNS)] = true
	}
	return slices.Sorted(maps.Keys(dirs))
}
