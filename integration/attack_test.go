package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// spoofCommand sends one packet, with addresses of the script's choice, from a
// namespace to the link of the host that has the address VIA.
func spoofCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: spoof NS[/LINK] VIA tcp,udp SOURCE:PORT DESTINATION:PORT")
	}
	s := of(ts)
	ns, link, ok := strings.Cut(args[0], "/")
	if !ok {
		link = "eth0"
	}
	for network := range strings.SplitSeq(args[2], ",") {
		var mac net.HardwareAddr
		var err error
		s.h.Do(func() { mac, err = hardwareAddr(netip.MustParseAddr(args[1])) })
		ts.Check(err)
		var out []byte
		s.in(ns, func() {
			out, err = exec.Command("inject", link, mac.String(), network, args[3], args[4]).CombinedOutput()
		})
		if err != nil {
			ts.Fatalf("spoof %s: %v: %s", args, err, out)
		}
	}
}

// hardwareAddr returns that of the link that has an address.
func hardwareAddr(a netip.Addr) (net.HardwareAddr, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		addrs, err := l.Addrs()
		if err != nil {
			return nil, err
		}
		for _, have := range addrs {
			if p, err := netip.ParsePrefix(have.String()); err == nil && p.Addr() == a {
				return l.HardwareAddr, nil
			}
		}
	}
	return nil, fmt.Errorf("no link has the address %s", a)
}

// A record is what the servers of a namespace have said of the datagrams they got.
type record struct {
	mu    sync.Mutex
	lines []string
}

func (r *record) keep(from io.Reader) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		r.mu.Lock()
		r.lines = append(r.lines, lines.Text())
		r.mu.Unlock()
	}
}

// heardCommand prints a line "SOURCE TEXT" for each datagram that servers of a
// namespace got. What was sent before a fetch that was answered is among them, if
// it took the same way and arrived.
func heardCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: heard NS")
	}
	if r := of(ts).records[args[0]]; r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		fmt.Fprintln(ts.Stdout(), strings.Join(r.lines, "\n"))
	}
}
