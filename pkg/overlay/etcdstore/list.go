package etcdstore

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A list is all that etcd has below a prefix, as of one revision: read whole, and
// from there on kept by what a watch tells. While the watch is lost (an error,
// or events that etcd has compacted away) it is not whole, and the next who needs
// it reads it anew. A change costs what has changed, however long the list is.
type list struct {
	client *clientv3.Client
	base   string
	log    *slog.Logger
	decode func(kind, name string, value []byte) (any, error) // once for each value
	wake   func(kind string)                                  // "": all may have changed
	follow func(from int64) context.CancelFunc                // starts a watch

	mu       sync.Mutex
	kinds    map[string]map[string]entry // by what the key is below base, up to "/" and after
	bad      map[string]error            // of the keys below base that mean nothing
	revision int64
	due      time.Time          // to be read anew whatever the watch tells
	stop     context.CancelFunc // of the watch; nil while the list is not whole
	grown    chan struct{}      // closed when revision grows
}

// An entry is the value of one key as it was judged.
type entry struct {
	name                     string
	value                    any // of a key that means nothing what it says all the same, or nil
	created, revision, lease int64
}

func newList(ctx context.Context, client *clientv3.Client, base string, log *slog.Logger) *list {
	l := &list{client: client, base: base, log: log, grown: make(chan struct{})}
	l.follow = func(from int64) context.CancelFunc {
		watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		go l.watch(watching, from)
		return cancel
	}
	return l
}

// whole returns with l locked and whole, or with an error and not.
func (l *list) whole(ctx context.Context) error {
	l.mu.Lock()
	if l.stop != nil {
		return nil
	}
	err := l.readAll(ctx)
	if err != nil {
		l.mu.Unlock()
	}
	return err
}

// perKey is how seldom a list is read for no reason, so that all the hosts of a
// network of any size together ask etcd for a key of it as often as one asks that.
const perKey = 600 * time.Millisecond

// readAll reads all keys of one revision, page by page, and watches from there.
func (l *list) readAll(ctx context.Context) error {
	const page = 5000
	l.kinds, l.bad = map[string]map[string]entry{}, map[string]error{}
	revision, keys := int64(0), 0
	for from, end := l.base, clientv3.GetPrefixRangeEnd(l.base); ; {
		res, err := l.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(revision))
		if err != nil {
			return fmt.Errorf("etcd: %w", err)
		}
		if revision == 0 {
			revision = res.Header.Revision
		}
		for _, kv := range res.Kvs {
			l.put(kv)
		}
		if keys += len(res.Kvs); !res.More {
			break
		}
		from = string(res.Kvs[len(res.Kvs)-1].Key) + "\x00"
	}
	period := perKey * time.Duration(keys+1)
	l.due = time.Now().Add(period/2 + rand.N(period))
	l.reached(revision)
	l.stop = l.follow(revision + 1)
	return nil
}

func (l *list) put(kv *mvccpb.KeyValue) {
	key := l.remove(kv)
	kind, name, _ := strings.Cut(key, "/")
	value, err := l.decode(kind, name, kv.Value)
	if err != nil {
		l.bad[key] = err
	}
	if l.kinds[kind] == nil {
		l.kinds[kind] = map[string]entry{}
	}
	l.kinds[kind][name] = entry{name, value, kv.CreateRevision, kv.ModRevision, kv.Lease}
}

func (l *list) remove(kv *mvccpb.KeyValue) (key string) {
	key = strings.TrimPrefix(string(kv.Key), l.base)
	kind, name, _ := strings.Cut(key, "/")
	delete(l.kinds[kind], name)
	delete(l.bad, key)
	return key
}

func (l *list) reached(revision int64) {
	l.revision = revision
	close(l.grown)
	l.grown = make(chan struct{})
}

// watch applies events until it is stopped or lost; then it wakes all, after a
// pause, as what has ended it may end the next one as well.
func (l *list) watch(ctx context.Context, from int64) {
	const pause = time.Second
	var err error
	for r := range l.client.Watch(ctx, l.base, clientv3.WithPrefix(), clientv3.WithRev(from)) {
		if err = r.Err(); err != nil {
			break
		}
		l.apply(ctx, r.Events)
	}
	l.mu.Lock()
	stopped := ctx.Err() != nil
	if !stopped {
		l.lose()
	}
	l.mu.Unlock()
	if stopped {
		return
	}
	l.log.Warn("watch of etcd ended, all is read anew", "error", err)
	time.AfterFunc(pause, func() { l.wake("") })
}

// lose has the list read anew when it is needed next. l is locked.
func (l *list) lose() {
	if l.stop != nil {
		l.stop()
	}
	l.stop = nil
}

// forget is lose for who has not locked l.
func (l *list) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose()
}

// problems returns what is wrong with the keys that mean nothing, by their names.
// l is locked.
func (l *list) problems() (all []error) {
	for _, key := range slices.Sorted(maps.Keys(l.bad)) {
		all = append(all, l.problem(key, l.bad[key]))
	}
	return all
}

// problem says which key of etcd an error is about.
func (l *list) problem(key string, err error) error {
	return fmt.Errorf("etcd: %s%s: %w", l.base, key, err)
}

func (l *list) apply(ctx context.Context, events []*clientv3.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() != nil || len(events) == 0 {
		return // another watch is on by now
	}
	told := map[string]bool{}
	for _, e := range events {
		if e.Type == clientv3.EventTypeDelete {
			l.remove(e.Kv)
		} else {
			l.put(e.Kv)
		}
		kind, _, _ := strings.Cut(strings.TrimPrefix(string(e.Kv.Key), l.base), "/")
		told[kind] = true
	}
	l.reached(events[len(events)-1].Kv.ModRevision)
	for kind := range told {
		l.wake(kind)
	}
}

// reach waits until the list has what was written at a revision, so that who has
// written it finds it there.
func (l *list) reach(ctx context.Context, revision int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.stop != nil && l.revision < revision {
		grown := l.grown
		l.mu.Unlock()
		select {
		case <-grown:
			l.mu.Lock()
		case <-ctx.Done():
			l.mu.Lock()
			l.lose()
		}
	}
}
