package testnet

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Answer is the body of a command that answers each client with a text and the
// address that the client has for it:
//
//	answer tcp|udp ADDRESS:PORT TEXT
//
// It prints "ready" once it listens, then each datagram that it gets with the
// address that it came from, and goes on until it is killed.
func Answer() {
	network, address, text := os.Args[1], os.Args[2], os.Args[3]
	var err error
	if network == "tcp" {
		err = answerTCP(address, text)
	} else {
		err = answerUDP(address, text)
	}
	fmt.Fprintln(os.Stderr, "answer:", err)
	os.Exit(1)
}

func reply(text string, client net.Addr) []byte {
	host, _, _ := net.SplitHostPort(client.String())
	return []byte(text + " " + host + "\n")
}

func answerTCP(address, text string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		_, _ = c.Write(reply(text, c.RemoteAddr()))
		_ = c.Close()
	}
}

func answerUDP(address, text string) error {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var b [64]byte
	for {
		n, client, err := c.ReadFrom(b[:])
		if err != nil {
			return err
		}
		host, _, _ := net.SplitHostPort(client.String())
		fmt.Println(host, strings.TrimSpace(string(b[:n])))
		_, _ = c.WriteTo(reply(text, client), client)
	}
}

// Ask is the body of a command that prints what an Answer says:
//
//	ask [-within 3s] [-from PORT] tcp|udp ADDRESS:PORT
//
// It tries again until the time is up, as the first packets may meet a
// neighbour that is not known yet.
func Ask() {
	within := flag.Duration("within", 3*time.Second, "how long to try")
	from := flag.Int("from", 0, "the client's own port")
	flag.Parse()
	deadline := time.Now().Add(*within)
	for {
		answer, err := ask(flag.Arg(0), flag.Arg(1), *from, deadline)
		if err == nil {
			fmt.Print(answer)
			return
		}
		if !time.Now().Before(deadline) {
			fmt.Fprintln(os.Stderr, "ask:", err)
			os.Exit(1)
		}
		time.Sleep(20 * time.Millisecond) // a refusal comes at once
	}
}

func ask(network, address string, from int, deadline time.Time) (string, error) {
	d := net.Dialer{Deadline: deadline}
	if from != 0 {
		d.Control = sharedPort
	}
	if d.LocalAddr = (&net.TCPAddr{Port: from}); network == "udp" {
		d.LocalAddr = &net.UDPAddr{Port: from}
	}
	c, err := d.Dial(network, address)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	if network == "udp" {
		deadline = minTime(deadline, time.Now().Add(250*time.Millisecond))
		if _, err = c.Write([]byte("?")); err != nil {
			return "", err
		}
	}
	_ = c.SetReadDeadline(deadline)
	answer, err := bufio.NewReader(c).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = errors.New("closed without an answer")
	}
	return answer, err
}

// sharedPort lets several clients have one port, each towards another server.
func sharedPort(_, _ string, c syscall.RawConn) error {
	var err error
	controlErr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return errors.Join(err, controlErr)
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
