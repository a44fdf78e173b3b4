package testnet

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Misbehave is the body of a command that does to a DNS server what it can:
//
//	misbehave ADDRESS:PORT DURATION
//
// It floods the server with questions that others would have to be asked, with
// garbage, loops of compression and names that have no end, opens connections
// and dawdles on them, and sends messages of every length by TCP. It fails if
// the server is not there to take it.
func Misbehave() {
	address := os.Args[1]
	d, err := time.ParseDuration(os.Args[2])
	if err == nil {
		err = misbehave(address, time.Now().Add(d))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "misbehave:", err)
		os.Exit(1)
	}
}

func misbehave(address string, until time.Time) error {
	if _, err := net.DialTimeout("tcp", address, time.Second); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, f := range []func(string, time.Time){flood, flood, dawdle, overlong} {
		wg.Go(func() { f(address, until) })
	}
	wg.Wait()
	return nil
}

// Garbage returns queries that no server should like, for fuzz tests too.
func Garbage() [][]byte {
	header := func(questions byte) []byte { return []byte{0, 1, 1, 0, 0, questions, 0, 0, 0, 0, 0, 0} }
	label := append([]byte{63}, make([]byte, 63)...)
	endless := header(1)
	for range 20 {
		endless = append(endless, label...)
	}
	return [][]byte{
		{}, {0}, header(0), header(1), header(2),
		append(header(1), 0xc0, 12, 0, 1, 0, 1),                              // points to itself
		append(header(1), 1, 'a', 0xc0, 12, 0, 1, 0, 1),                      // and round again
		append(header(1), 0xc0, 255, 0, 1, 0, 1),                             // beyond the end
		append(header(1), 64, 0, 0, 1, 0, 1),                                 // a label of a kind that is not
		append(header(1), 5, 'a', 'b'),                                       // cut
		append(header(1), 1, 'a', 0, 0, 1),                                   // without a class
		append(header(1), 0, 0, 255, 0, 255),                                 // anything of anything
		append([]byte{0, 1, 0x81, 0, 0, 1, 0, 0, 0, 0, 0, 0}, 0, 0, 1, 0, 1), // an answer
		append([]byte{0, 1, 0x28, 0, 0, 1, 0, 0, 0, 0, 0, 0}, 0, 0, 1, 0, 1), // an update
		append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1}, 0, 0, 1, 0, 1, 0, 0, 41, 255, 255, 0, 9, 0, 0, 255, 255), // EDNS, cut
		endless,
	}
}

func flood(address string, until time.Time) {
	c, err := net.Dial("udp", address)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	garbage := Garbage()
	for i := 0; time.Now().Before(until); i++ {
		q := new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.flood.example.", i), dns.TypeA)
		b, _ := q.Pack()
		_, _ = c.Write(b)
		_, _ = c.Write(garbage[i%len(garbage)])
		b = make([]byte, rand.IntN(1400))
		for j := range b {
			b[j] = byte(rand.Uint32())
		}
		_, _ = c.Write(b)
	}
}

// dawdle opens many connections and says a byte now and then.
func dawdle(address string, until time.Time) {
	var open []net.Conn
	for time.Now().Before(until) {
		if c, err := net.DialTimeout("tcp", address, time.Second); err == nil && len(open) < 200 {
			open = append(open, c)
		}
		for _, c := range open {
			_, _ = c.Write([]byte{0})
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // it dawdles
	}
	for _, c := range open {
		_ = c.Close()
	}
}

// overlong sends messages of up to 65,535 bytes, whole and cut.
func overlong(address string, until time.Time) {
	for time.Now().Before(until) {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			continue
		}
		b := binary.BigEndian.AppendUint16(nil, []uint16{65535, 4096, 11, 0, 1}[rand.IntN(5)])
		b = append(b, make([]byte, rand.IntN(70000))...)
		_, _ = c.Write(b)
		_ = c.Close()
	}
}
