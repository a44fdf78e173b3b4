package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/daemon/faultlog"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A forwarder asks other servers, and remembers what they said.
type forwarder struct {
	host   *hostServers
	cache  cache
	flight singleflight.Group
	log    *slog.Logger

	mu        sync.Mutex
	upstreams map[upstreamKey]*upstream
	nobody    faultlog.Log

	hits, misses, failures atomic.Uint64
	flying                 atomic.Int64
}

// maxFlying bounds the questions that other servers are asked at a time, of all
// containers.
const maxFlying = 4096

type upstreamKey struct {
	scope string
	addr  netip.AddrPort
}

func newForwarder(log *slog.Logger, resolvConf string) *forwarder {
	return &forwarder{host: &hostServers{path: resolvConf}, log: log, upstreams: map[upstreamKey]*upstream{},
		nobody: faultlog.Log{Log: log, Wrong: "other names are not found", Right: "there is a server to ask"}}
}

func keyOf(sc *scope, q *question) key {
	return key{sc.key, q.text(), q.qtype, q.do, q.flags&flagCD != 0}
}

// cached appends the answer to b if it is known, and returns nil otherwise.
func (f *forwarder) cached(sc *scope, q *question, b []byte, limit int) []byte {
	now := time.Now()
	e := f.cache.get(keyOf(sc, q), now)
	if e == nil {
		f.misses.Add(1)
		return nil
	}
	f.hits.Add(1)
	return e.answer(b, q, limit, now)
}

// ask asks the servers of a container, and returns what it is to be told. Others
// that ask the same at the same time wait for the same answer, so that a loop of
// servers that ask one another ends with the first of them.
func (f *forwarder) ask(ctx context.Context, ns *netns.NS, p *pending) []byte {
	k := keyOf(p.scope, &p.question)
	text := fmt.Sprintf("%q %q %d %t %t", k.scope, k.name, k.qtype, k.do, k.cd)
	// What is asked from inside of a container ends before its namespace is closed; any
	// other question does not end with the client that happens to be the first.
	inside := len(p.scope.servers) > 0
	shared := ctx
	if !inside {
		shared = context.WithoutCancel(ctx)
	}
	answered := f.flight.DoChan(text, func() (any, error) { return f.fetch(shared, ns, k, p) })
	select {
	case r := <-answered:
		if e, ok := r.Val.(*entry); ok && e != nil {
			return e.answer(nil, &p.question, p.limit, time.Now())
		}
	case <-ctx.Done():
		if inside {
			<-answered
		}
	}
	return p.refuse(nil, dns.RcodeServerFailure)
}

func (f *forwarder) fetch(ctx context.Context, ns *netns.NS, k key, p *pending) (*entry, error) {
	if f.flying.Add(1) > maxFlying {
		f.flying.Add(-1)
		return nil, fmt.Errorf("more than %d questions at a time", maxFlying)
	}
	defer f.flying.Add(-1)
	m, err := newQuery(p)
	if err != nil {
		return nil, err
	}
	servers, dial := f.serversOf(p.scope, ns)
	answer, err := race(ctx, servers, dial, m)
	f.told(err)
	if answer == nil {
		f.failures.Add(1)
		answer = new(dns.Msg).SetRcode(m, dns.RcodeServerFailure)
	}
	answer.Question = m.Question
	e, err := newEntry(answer, time.Now())
	if err == nil {
		f.cache.put(k, e)
	}
	return e, err
}

// told takes note of whether there was somebody to ask. How servers do they tell
// themselves.
func (f *forwarder) told(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !errors.Is(err, errNoServer) {
		err = nil
	}
	f.nobody.Tell(err)
}

// newQuery is what other servers are asked.
func newQuery(p *pending) (*dns.Msg, error) {
	name, _, err := dns.UnpackDomainName(p.name, 0)
	if err != nil {
		return nil, err
	}
	m := &dns.Msg{Question: []dns.Question{{Name: strings.ToLower(name), Qtype: p.qtype, Qclass: p.qclass}}}
	m.RecursionDesired = true
	m.CheckingDisabled = p.flags&flagCD != 0
	m.AuthenticatedData = true // RFC 6840, section 5.7: we understand AD
	m.SetEdns0(maxSize, p.do)
	return m, nil
}

// serversOf returns whom to ask, and from where: servers that were named for a
// container are to be reached as it reaches them, those of the host as the host
// does (127.0.0.53).
func (f *forwarder) serversOf(sc *scope, ns *netns.NS) ([]*upstream, dialer) {
	if len(sc.servers) > 0 {
		return f.known(sc.key, sc.servers), dialIn(ns)
	}
	return f.known("", f.host.get()), (&net.Dialer{}).DialContext
}

func (f *forwarder) known(scope string, servers []netip.AddrPort) (out []*upstream) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, addr := range servers {
		k := upstreamKey{scope, addr}
		if f.upstreams[k] == nil {
			f.upstreams[k] = newUpstream(addr, f.log, scope)
		}
		out = append(out, f.upstreams[k])
	}
	return out
}

// forget drops what was known of the servers of a container that is gone.
func (f *forwarder) forget(scope string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k := range f.upstreams {
		if k.scope == scope && scope != "" {
			delete(f.upstreams, k)
		}
	}
}

// dialIn opens connections inside a namespace, with the mark by which the rules
// there know that they are not the container's.
func dialIn(ns *netns.NS) dialer {
	d := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		ctlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, nft.ResolverMark) })
		if err == nil {
			err = ctlErr
		}
		return err
	}}
	return func(ctx context.Context, network, address string) (c net.Conn, err error) {
		nsErr := ns.Do(func() error {
			c, err = d.DialContext(ctx, network, address)
			return err
		})
		return c, nsErr
	}
}
