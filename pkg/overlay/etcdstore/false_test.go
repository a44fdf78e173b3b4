package etcdstore

import (
	"context"
	"crypto/rand"
	"io"
	"net"
	"testing"
	"time"
)

// What is no etcd, and answers all the same, or not at all, says nothing about hosts,
// and holds nobody up for longer than he waits.
func TestFalseEtcd(t *testing.T) {
	for name, answer := range map[string]func(net.Conn){
		"silent":  func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"closes":  func(net.Conn) {},
		"web":     func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") },
		"garbage": func(c net.Conn) { _, _ = io.CopyN(c, rand.Reader, 1<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close() //nolint:errcheck // ends the goroutine below
			go func() {
				for {
					c, acceptErr := l.Accept()
					if acceptErr != nil {
						return
					}
					go func() {
						answer(c)
						_ = c.Close()
					}()
				}
			}()
			client, err := Dial(Access{Endpoints: []string{"http://" + l.Addr().String()}})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close() //nolint:errcheck // nothing was written
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if hosts, leftOut, err := member(t, client, 1).Look(ctx); err == nil || hosts != nil || leftOut != nil {
				t.Errorf("found %v, %v, %v", hosts, leftOut, err)
			}
		})
	}
}
