package resolver

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// aServer answers without sockets, for a container that sees itself: web, with
// many addresses called many.
func aServer() (*server, *scope) {
	var records []*zone.Record
	add := func(id string, names ...string) {
		r := &zone.Record{
			Mark: owner.Key{Network: "net", ContainerID: id, IfName: "eth0"}.Mark(), Network: "net", ContainerID: id, Names: names, TTL: 5,
			Addrs:    []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(len(records) + 1)}), netip.MustParseAddr("fd00::1")},
			Services: []zone.Service{{Name: "http", Protocol: "tcp", Port: 80}},
		}
		records = append(records, r)
	}
	add("c1", "web")
	for i := range 100 {
		add(fmt.Sprintf("m%d", i), fmt.Sprintf("many%d", i), "many")
	}
	c := zone.NewCatalog()
	for _, r := range records {
		c.Set(r.Mark.Container(), []*zone.Record{r})
	}
	v := c.View("c1")
	return &server{out: newForwarder(silent(), "/nonexistent")}, newScope(v)
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is answered without the dns package is what that package would read.
func TestLocalAnswers(t *testing.T) {
	s, sc := aServer()
	for _, c := range []struct {
		name  string
		qtype uint16
		edns  uint16
		want  string // of the answer section
		flags string
	}{
		{"web.", dns.TypeA, 0, "web.\t5\tIN\tA\t10.0.0.1", "qr aa rd ra"},
		{"WeB.nEt.", dns.TypeAAAA, 4096, "WeB.nEt.\t5\tIN\tAAAA\tfd00::1", "qr aa rd ra"},
		{"web.", dns.TypeMX, 0, "", "qr aa rd ra"},
		{"_http._tcp.web.", dns.TypeSRV, 0, "_http._tcp.web.\t5\tIN\tSRV\t0 1 80 web.net.", "qr aa rd ra"},
		{"1.0.0.10.in-addr.arpa.", dns.TypePTR, 0, "1.0.0.10.in-addr.arpa.\t5\tIN\tPTR\tweb.net.", "qr aa rd ra"},
	} {
		q := new(dns.Msg).SetQuestion(c.name, c.qtype)
		if c.edns > 0 {
			q.SetEdns0(c.edns, false)
		}
		b, later := s.answer(sc, pack(t, q), nil, 0)
		if later != nil {
			t.Errorf("%s: others would be asked", c.name)
			continue
		}
		m := new(dns.Msg)
		if err := m.Unpack(b); err != nil {
			t.Fatal(c.name, err)
		}
		var got []string
		for _, rr := range m.Answer {
			got = append(got, rr.String())
		}
		if strings.Join(got, "\n") != c.want || m.Id != q.Id || m.Question[0] != q.Question[0] || (m.IsEdns0() != nil) != (c.edns > 0) {
			t.Errorf("%s: %v, want %s", c.name, m, c.want)
		}
		if !strings.Contains(m.String(), "flags: "+c.flags+";") {
			t.Errorf("%s: %s, want flags %s", c.name, m.MsgHdr.String(), c.flags)
		}
	}
}

// What does not fit is cut to what the client takes, and says so.
func TestCut(t *testing.T) {
	s, sc := aServer()
	for _, c := range []struct {
		edns  uint16
		limit int
		most  int
		cut   bool
	}{{0, 0, 512, true}, {4096, 0, maxSize, true}, {100, 0, 512, true}, {0, dns.MaxMsgSize, dns.MaxMsgSize, false}} {
		q := new(dns.Msg).SetQuestion("many.", dns.TypeA)
		if c.edns > 0 {
			q.SetEdns0(c.edns, true)
		}
		b, _ := s.answer(sc, pack(t, q), nil, c.limit)
		m := new(dns.Msg)
		if err := m.Unpack(b); err != nil || len(b) > c.most || m.Truncated != c.cut || !c.cut && len(m.Answer) != 100 {
			t.Errorf("%+v: %d bytes, %d answers, %v", c, len(b), len(m.Answer), err)
		}
	}
}

// Whatever comes in, what goes out is an answer to it, or nothing.
func FuzzQuery(f *testing.F) {
	for _, b := range testnet.Garbage() {
		f.Add(b)
	}
	for _, name := range []string{"web.", "many.net.", "_http._tcp.web.", "1.0.0.10.in-addr.arpa.", "other.example."} {
		f.Add(pack(f, new(dns.Msg).SetQuestion(name, dns.TypeA)))
		f.Add(pack(f, new(dns.Msg).SetQuestion(name, dns.TypeANY).SetEdns0(1400, true)))
	}
	s, sc := aServer()
	f.Fuzz(func(t *testing.T, query []byte) {
		before := bytes.Clone(query)
		b, later := s.answer(sc, query, nil, 0)
		if !bytes.Equal(before, query) {
			t.Error("the query was changed")
		}
		asked := new(dns.Msg)
		wrong := asked.Unpack(query)
		if later != nil {
			if _, err := newQuery(later); err != nil && wrong == nil {
				t.Errorf("cannot ask others about what was accepted: %v", err)
			}
			return
		}
		if len(b) == 0 {
			return
		}
		m := new(dns.Msg)
		if err := m.Unpack(b); err != nil {
			t.Fatalf("answer %x: %v", b, err)
		}
		if !m.Response || m.Id != uint16(query[0])<<8|uint16(query[1]) || len(b) > maxSize {
			t.Errorf("answer %v of %d bytes", m, len(b))
		}
		if wrong == nil && asked.Opcode == dns.OpcodeQuery && len(m.Question) == 1 && (len(asked.Question) != 1 || m.Question[0] != asked.Question[0]) {
			t.Errorf("answer to %v, not to %v", m.Question, asked.Question)
		}
	})
}

// An answer of another server comes back from the cache as it was, but for what
// is the client's own, and for the time that has passed.
func TestCache(t *testing.T) {
	var c cache
	now := time.Now()
	m := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
	m.Response = true
	for _, text := range []string{"www.example. 60 IN CNAME x.example.", "x.example. 30 IN A 192.0.2.1"} {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	m.SetEdns0(4096, true)
	e, err := newEntry(m, now)
	if err != nil {
		t.Fatal(err)
	}
	k := key{name: "www.example", qtype: dns.TypeA}
	c.put(k, e)
	if c.get(k, now.Add(31*time.Second)) != nil || c.get(key{name: "www.example", qtype: dns.TypeA, do: true}, now) != nil {
		t.Error("an answer that is not good any more, or for another question")
	}
	var q question
	if rcode, ok := q.read(pack(t, new(dns.Msg).SetQuestion("WWW.Example.", dns.TypeA))); !ok || rcode != 0 {
		t.Fatal(rcode)
	}
	var got dns.Msg
	if err := got.Unpack(c.get(k, now.Add(10*time.Second)).answer(nil, &q, minSize, now.Add(10*time.Second))); err != nil {
		t.Fatal(err)
	}
	if got.Id != q.id || got.Question[0].Name != "WWW.Example." || got.Answer[0].Header().Ttl != 50 || got.Answer[1].Header().Ttl != 20 || len(got.Extra) > 0 {
		t.Errorf("got %v", &got)
	}
	if b := e.answer(nil, &q, 40, now); b[2]&(flagTC>>8) == 0 || len(b) > 40 {
		t.Errorf("%d bytes for a client that takes 40", len(b))
	}
	got = dns.Msg{}
	if b := e.answer(nil, &q, len(e.wire)-1, now.Add(time.Second)); got.Unpack(b) != nil || !got.Truncated || len(got.Answer) != 1 || got.Answer[0].Header().Ttl != 59 {
		t.Errorf("one record fits: %v", &got)
	}
}

func TestCacheIsBounded(t *testing.T) {
	var c cache
	now := time.Now()
	for i := range 2 * maxEntries {
		c.put(key{name: fmt.Sprint(i)}, &entry{wire: make([]byte, 1+i%4000), stored: now, until: now.Add(time.Minute)})
	}
	if n, size := c.size(); n > maxEntries || size > maxBytes || n < maxEntries/4 {
		t.Errorf("%d entries, %d bytes", n, size)
	}
	sum := 0
	for _, e := range c.entries {
		sum += len(e.wire)
	}
	if _, size := c.size(); sum != size {
		t.Errorf("%d bytes, counted as %d", sum, size)
	}
}

func TestLifetime(t *testing.T) {
	rr := func(text string) []dns.RR {
		r, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		return []dns.RR{r}
	}
	for _, c := range []struct {
		m    dns.Msg
		want time.Duration
	}{
		{dns.Msg{Answer: rr("a. 7 IN A 1.2.3.4")}, 7 * time.Second},
		{dns.Msg{Answer: rr("a. 0 IN A 1.2.3.4")}, 0},
		{dns.Msg{Answer: rr("a. 9999999 IN A 1.2.3.4")}, maxPositive},
		{dns.Msg{}, 0},
		{dns.Msg{Ns: rr("a. 60 IN SOA a. b. 1 2 3 4 30")}, 30 * time.Second},
		{dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeNameError}, Ns: rr("a. 20 IN SOA a. b. 1 2 3 4 30")}, 20 * time.Second},
		{dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeNameError}, Ns: rr("a. 99999 IN SOA a. b. 1 2 3 4 99999")}, maxNegative},
		{dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeServerFailure}}, failureTTL},
	} {
		if got := lifetime(&c.m); got != c.want {
			t.Errorf("%v: %v, want %v", c.m.String(), got, c.want)
		}
	}
}

// Whatever another server says, what is kept of it can be told to a client.
func FuzzEntry(f *testing.F) {
	for _, text := range []string{"x. 60 IN A 192.0.2.1", "x. 60 IN CNAME y.x.", "x. 60 IN TXT \"\"", "x. 5 IN SOA a. b. 1 2 3 4 30"} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m := new(dns.Msg).SetQuestion("x.", dns.TypeA)
		m.Answer, m.Ns = []dns.RR{rr, rr}, []dns.RR{rr}
		f.Add(pack(f, m.SetEdns0(4096, true)))
	}
	var q question
	if _, ok := q.read(pack(f, new(dns.Msg).SetQuestion("X.", dns.TypeA))); !ok {
		f.Fatal("no question")
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		m := new(dns.Msg)
		if m.Unpack(said) != nil {
			return
		}
		m.Question = []dns.Question{{Name: "x.", Qtype: dns.TypeA, Qclass: dns.ClassINET}}
		now := time.Now()
		e, err := newEntry(m, now)
		if err != nil {
			return
		}
		for _, limit := range []int{minSize, dns.MaxMsgSize} {
			b := e.answer(nil, &q, limit, now.Add(time.Second))
			if got := new(dns.Msg); got.Unpack(b) != nil || len(b) > limit || got.Question[0].Name != "X." {
				t.Errorf("limit %d: %d bytes, %v", limit, len(b), got)
			}
		}
	})
}
