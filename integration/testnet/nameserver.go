package testnet

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// NameServer is the body of a command that is a DNS server, good and bad:
//
//	nameserver ADDRESS:PORT [ADDRESS]
//
// It answers A for any name with ADDRESS, 192.0.2.53 unless given, and TTL 60, but
// for names that begin with
//
//	nx.      NXDOMAIN, with a SOA
//	empty.   no record of the type
//	fail.    SERVFAIL
//	big.     40 records, which do not fit into UDP
//	slow.    after a second
//	lie.     first two answers that are not to be believed, then the true one
//	count.   the number of the query, as the last byte of the address, TTL 3600
//	brief.   the same, TTL 1
//	silent.  not at all
//
// It prints "ready" once it listens, and goes on until it is killed.
func NameServer() {
	addr := net.ParseIP("192.0.2.53")
	if len(os.Args) > 2 {
		addr = net.ParseIP(os.Args[2])
	}
	if err := serveNames(os.Args[1], addr.To4()); err != nil {
		fmt.Fprintln(os.Stderr, "nameserver:", err)
		os.Exit(1)
	}
}

func serveNames(address string, addr net.IP) error {
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	n := &nameServer{addr: addr}
	go func() { _ = (&dns.Server{Listener: tcp, Handler: n}).ActivateAndServe() }()
	return (&dns.Server{PacketConn: udp, Handler: n}).ActivateAndServe()
}

type nameServer struct {
	addr  net.IP
	count atomic.Int32
}

// ServeDNS implements dns.Handler.
func (n *nameServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	name := q.Question[0].Name
	kind, _, _ := strings.Cut(strings.ToLower(name), ".")
	m := new(dns.Msg).SetReply(q)
	soa := &dns.SOA{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60}, Ns: "ns.example.", Mbox: "x.example.", Minttl: 60}
	switch kind {
	case "silent":
		return
	case "slow":
		time.Sleep(time.Second) //nolint:forbidigo // it is what slow is
	case "nx":
		m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{soa}
	case "empty":
		m.Ns = []dns.RR{soa}
	case "fail":
		m.Rcode = dns.RcodeServerFailure
	case "lie":
		n.lie(w, q)
	}
	if m.Rcode == dns.RcodeSuccess && m.Ns == nil && q.Question[0].Qtype == dns.TypeA {
		m.Answer = n.answers(name, kind)
	}
	if kind == "big" && w.LocalAddr().Network() == "udp" {
		m.Truncated, m.Answer = true, nil
	}
	_ = w.WriteMsg(m)
}

func (n *nameServer) answers(name, kind string) (out []dns.RR) {
	a := func(last byte, ttl uint32) {
		out = append(out, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: net.IPv4(n.addr[0], n.addr[1], n.addr[2], last)})
	}
	switch kind {
	case "big":
		for i := range byte(40) {
			a(i+1, 60)
		}
	case "count":
		a(byte(n.count.Add(1)), 3600)
	case "brief":
		a(byte(n.count.Add(1)), 1)
	default:
		a(n.addr[3], 60)
	}
	return out
}

func (n *nameServer) lie(w dns.ResponseWriter, q *dns.Msg) {
	for _, change := range []func(*dns.Msg){
		func(m *dns.Msg) { m.Id++ },
		func(m *dns.Msg) { m.Question[0].Name = "bank.example." },
	} {
		m := new(dns.Msg).SetReply(q)
		m.Question = []dns.Question{q.Question[0]}
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(6, 6, 6, 6)}}
		change(m)
		_ = w.WriteMsg(m)
	}
}
