package resolver

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"

	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A server answers the queries of one container, at sockets inside its
// namespace.
type server struct {
	ns            *netns.NS
	scope         atomic.Pointer[scope]
	out           *forwarder
	upstreamSem   chan struct{} // queries that wait for other servers
	connectionSem chan struct{} // connections

	queries, refused atomic.Uint64
	// adding counts the ADDs that need the server, and prepared is the round during
	// which that last changed; the service's lock is theirs.
	adding, prepared int

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex // of what follows
	inode   uint64     // of the namespace
	sockets []*sockets
	started bool
	led     string // the rules that are there, as a command
}

// What one container can take of the resolver.
const (
	maxWaiting     = 256 // queries that other servers are asked about
	maxConnections = 32
)

// newServer makes a server that has no sockets yet.
func newServer(path string, out *forwarder) *server {
	s := &server{ns: netns.At(path), out: out, upstreamSem: make(chan struct{}, maxWaiting), connectionSem: make(chan struct{}, maxConnections)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// open has the sockets there, and queries led to them; until start they wait. With
// capture they are of both families, if the kernel has both. The namespace must be that
// of these records; with none, as before there is one, any but the host's. Once it is
// open it is the same for good.
func (s *server) open(ctx context.Context, capture bool, records []*zone.Record) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inode, err = s.ns.Inode(); err != nil {
		return err
	}
	if s.scope.Load() == nil {
		if err := verify(s.ns, netns.Host(), records); err != nil {
			return err
		}
	}
	return s.ns.Do(func() error {
		if err := s.listen(ctx, capture); err != nil {
			return err
		}
		return s.lead(ctx, capture)
	})
}

// listen opens the sockets that are not there yet, from a thread that is.
func (s *server) listen(ctx context.Context, capture bool) error {
	for i, addr := range []netip.Addr{netip.MustParseAddr(zone.Resolver), netip.IPv6Loopback()} {
		if i < len(s.sockets) || addr.Is6() && !capture {
			continue
		}
		opened, err := listen(ctx, addr)
		if addr.Is6() && noFamily(err) {
			break
		}
		if err != nil {
			return err
		}
		s.sockets = append(s.sockets, opened)
		if s.started {
			s.serve(opened)
		}
	}
	return nil
}

// lead makes the rules, from a thread that is there.
func (s *server) lead(ctx context.Context, capture bool) error {
	rules := s.rules(capture)
	if s.scope.Load() == nil && s.led == rules.String() { // just prepared; later somebody may have taken them away
		return nil
	}
	if err := rules.Apply(ctx); err != nil {
		return err
	}
	s.led = rules.String()
	return nil
}

// withdraw takes the rules away.
func (s *server) withdraw(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.led = ""
	return s.ns.Do(func() error { return s.rules(false).Remove(ctx) })
}

// start begins to answer.
func (s *server) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
	for _, k := range s.sockets {
		s.serve(k)
	}
}

func (s *server) serve(k *sockets) {
	s.wg.Go(func() { s.serveUDP(k) })
	s.wg.Go(func() { s.serveTCP(k) })
}

// in reports whether the server is in the namespace of that inode, or in none yet.
func (s *server) in(inode uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inode == inode || s.inode == 0
}

// rules lead the container's queries to the server, for a thread that is there.
func (s *server) rules(capture bool) nft.Resolver {
	r := nft.Resolver{NS: netns.Host(), Capture: capture}
	for _, k := range s.sockets {
		r.Sockets = append(r.Sockets, k.ports())
	}
	return r
}

// close ends the server, and returns when nothing of it runs any more.
func (s *server) close() {
	s.cancel()
	s.mu.Lock()
	for _, k := range s.sockets {
		k.close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	s.ns.Close()
}

// A pending is a query that other servers are to be asked about.
type pending struct {
	question
	scope *scope
	limit int
}

// answer appends the answer to a query to b, if it is known; otherwise it returns
// what to ask. limit is the size of an answer that the client takes, 0 for what
// the query says.
func (s *server) answer(sc *scope, query, b []byte, limit int) (answer []byte, later *pending) {
	var q question
	rcode, ok := q.read(query)
	switch {
	case !ok:
		s.refused.Add(1)
		return nil, nil
	case rcode != dns.RcodeSuccess:
		s.refused.Add(1)
		return q.refuse(b, rcode), nil
	case q.qclass != dns.ClassINET || q.qtype == dns.TypeAXFR || q.qtype == dns.TypeIXFR:
		return q.refuse(b, dns.RcodeRefused), nil
	}
	if limit == 0 {
		limit = q.size
	}
	if a := sc.Answer(q.text(), q.qtype); a.Known {
		return q.local(b, a, limit), nil
	}
	if !sc.forwards {
		return q.refuse(b, dns.RcodeNameError), nil
	}
	if a := s.out.cached(sc, &q, b, limit); a != nil {
		return a, nil
	}
	q.name = append([]byte(nil), q.name...) // the buffer is used again
	return nil, &pending{q, sc, limit}
}

// wait asks other servers, and gives the answer to reply, on a goroutine of its
// own. A container that waits for too many is told so at once.
func (s *server) wait(p *pending, reply func([]byte)) {
	select {
	case s.upstreamSem <- struct{}{}:
	default:
		s.refused.Add(1)
		reply(p.refuse(nil, dns.RcodeServerFailure))
		return
	}
	s.wg.Go(func() {
		defer func() { <-s.upstreamSem }()
		reply(s.out.ask(s.ctx, s.ns, p))
	})
}
