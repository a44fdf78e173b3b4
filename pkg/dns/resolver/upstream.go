package resolver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/dockyard-cni/dockyard/pkg/daemon/faultlog"
)

// An upstream is a server that is asked what no zone knows, and how it has done.
type upstream struct {
	addr netip.AddrPort

	mu       sync.Mutex
	rtt      time.Duration // smoothed; 0: never answered
	failures int           // since the last answer
	failed   time.Time
	asked    uint64
	mute     faultlog.Log
}

// tolerated is how many times in a row a server may leave us without an answer before
// that is said.
const tolerated = 3

// newUpstream returns a server that is to be asked for a container; "" for all.
func newUpstream(addr netip.AddrPort, log *slog.Logger, scope string) *upstream {
	if scope != "" {
		log = log.With("container", scope)
	}
	return &upstream{addr: addr, mute: faultlog.Log{
		Log: log, Wrong: fmt.Sprintf("server %s does not answer", addr), Right: fmt.Sprintf("server %s answers", addr),
	}}
}

// How several servers are asked: the next one when the first does not answer
// in about twice its usual time. One that has failed is asked last for a while.
const (
	patience   = 4500 * time.Millisecond // C libraries give up after 5 s
	unknownRTT = 50 * time.Millisecond
	minStagger = 30 * time.Millisecond
	maxStagger = 200 * time.Millisecond
	again      = time.Second // between rounds
	rounds     = 3
	avoid      = 10 * time.Second
)

// A dialer opens connections where a server is to be reached from.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// errNoServer is the cause of SERVFAIL where nobody is named to ask.
var errNoServer = errors.New("no server to ask: none is configured, and resolv.conf of the host has none")

// race asks the servers, and returns the first good answer. With none it returns
// the last bad one, such as SERVFAIL, if there was any.
func race(ctx context.Context, servers []*upstream, dial dialer, m *dns.Msg) (*dns.Msg, error) {
	if len(servers) == 0 {
		return nil, errNoServer
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	order := byHealth(servers)
	type result struct {
		m   *dns.Msg
		err error
	}
	results := make(chan result, rounds*len(order))
	start := time.NewTimer(0)
	defer start.Stop()
	var bad *dns.Msg
	var errs []error
	for started, ended := 0, 0; ; {
		select {
		case <-start.C:
			if started == cap(results) {
				continue
			}
			u := order[started%len(order)]
			started++
			go func() {
				answer, err := u.ask(ctx, dial, m)
				results <- result{answer, err}
			}()
			start.Reset(u.stagger(started%len(order) == 0))
		case r := <-results:
			ended++
			switch {
			case r.err != nil:
				errs = append(errs, r.err)
			case r.m.Rcode == dns.RcodeSuccess || r.m.Rcode == dns.RcodeNameError:
				return r.m, nil
			default:
				bad = r.m
			}
			if ended >= len(order) && ended == started {
				return bad, errors.Join(errs...)
			}
			if started < len(order) {
				start.Reset(0) // no need to wait for one that has said no
			}
		case <-ctx.Done():
			if bad == nil {
				errs = append(errs, fmt.Errorf("no answer in %v", patience))
			}
			return bad, errors.Join(errs...)
		}
	}
}

// byHealth sorts those to the end that have failed lately.
func byHealth(servers []*upstream) []*upstream {
	now := time.Now()
	order := slices.Clone(servers)
	ill := func(u *upstream) int {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.failures > 0 && now.Sub(u.failed) < avoid {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(order, func(a, b *upstream) int { return cmp.Compare(ill(a), ill(b)) })
	return order
}

// stagger is how long to wait for the server before the next one is asked too.
func (u *upstream) stagger(lastOfRound bool) time.Duration {
	if lastOfRound {
		return again
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return min(max(2*cmp.Or(u.rtt, unknownRTT), minStagger), maxStagger)
}

// ask sends one query and waits for its answer, by UDP and where that is cut by
// TCP.
func (u *upstream) ask(ctx context.Context, dial dialer, m *dns.Msg) (*dns.Msg, error) {
	began := time.Now()
	answer, err := u.exchange(ctx, dial, "udp", m)
	if err == nil && answer.Rcode == dns.RcodeFormatError && m.IsEdns0() != nil {
		plain := m.Copy()
		plain.Extra = nil
		answer, err = u.exchange(ctx, dial, "udp", plain)
	}
	if err == nil && answer.Truncated {
		answer, err = u.exchange(ctx, dial, "tcp", m)
	}
	u.note(err, time.Since(began))
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", u.addr, err)
	}
	return answer, nil
}

// note remembers how the server has done. One that another has overtaken has not
// failed, unless it had time enough.
func (u *upstream) note(err error, took time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked++
	switch {
	case err == nil:
		u.failures = 0
		u.mute.Tell(nil)
		if u.rtt == 0 {
			u.rtt = took
		}
		u.rtt += (took - u.rtt) / 8
	case took >= minStagger || !errors.Is(err, context.Canceled):
		if u.failures++; u.failures == tolerated {
			u.mute.Tell(err)
		}
		u.failed = time.Now()
	}
}

func (u *upstream) exchange(ctx context.Context, dial dialer, network string, m *dns.Msg) (*dns.Msg, error) {
	c, err := dial(ctx, network, u.addr.String())
	if err != nil {
		return nil, err
	}
	conn := &dns.Conn{Conn: c, UDPSize: dns.DefaultMsgSize}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer func() { stop(); _ = c.Close() }()
	query := m.Copy()
	query.Id = dns.Id()
	if err := conn.WriteMsg(query); err != nil {
		return nil, cause(ctx, err)
	}
	for {
		answer, err := conn.ReadMsg()
		if err != nil && answer == nil {
			return nil, cause(ctx, err)
		}
		if err == nil && answersTo(answer, query) {
			return answer, nil
		}
		if network == "tcp" {
			return nil, errors.New("an answer to another question")
		}
		// By UDP anybody can send anything: the true answer may follow.
	}
}

func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// answersTo reports whether a is an answer to q, and not a lie that somebody
// sends who has not seen q.
func answersTo(a, q *dns.Msg) bool {
	if a.Id != q.Id || !a.Response || a.Opcode != q.Opcode {
		return false
	}
	if len(a.Question) == 0 { // servers that refuse may leave it out
		return a.Rcode != dns.RcodeSuccess && a.Rcode != dns.RcodeNameError
	}
	x, y := a.Question[0], q.Question[0]
	return len(a.Question) == 1 && strings.EqualFold(x.Name, y.Name) && x.Qtype == y.Qtype && x.Qclass == y.Qclass
}
