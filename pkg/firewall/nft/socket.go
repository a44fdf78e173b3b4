package nft

import (
	"context"
	"errors"
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Closing a socket of nf_tables waits until the kernel has freed what recent
// transactions deleted, anybody's (nft_rcv_nl_event): a grace period of RCU, ten
// milliseconds or more. So sockets stay open until the process ends, by when
// the deletion of a link has waited for the same grace period.

// bufferLimit is what one transaction may take. The kernel takes a transaction in
// one message, and answers each part of it; its own limit of some 200 KB ends at a
// few hundred published ports. Nothing is allocated before it is needed.
const bufferLimit = 256 << 20

// writer returns a connection for one transaction. Its socket closes with the
// process, or when the collector finds it unused.
func writer() *nftables.Conn {
	c, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(enlarge))
	if err != nil {
		return &nftables.Conn{} // Flush tries again, and says why not
	}
	return c
}

// enlarge raises the limits of a socket's buffers; without CAP_NET_ADMIN in the
// initial user namespace no further than net.core.wmem_max and rmem_max.
func enlarge(c *netlink.Conn) error {
	return errors.Join(c.SetWriteBuffer(bufferLimit), c.SetReadBuffer(bufferLimit))
}

// reader returns a connection for listings.
func reader() *nftables.Conn { return writer() }

// A questioner is a socket for questions to one network namespace.
type questioner struct {
	mu   sync.Mutex // from a question to its answer
	conn *netlink.Conn
}

// questioners holds one questioner a network namespace, by its inode.
var questioners sync.Map

// here returns the questioner for the namespace of this thread.
func here() (*questioner, error) {
	var ns unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &ns); err != nil {
		return nil, err
	}
	if q, ok := questioners.Load(ns.Ino); ok {
		return q.(*questioner), nil
	}
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	q := &questioner{conn: conn}
	questioners.Store(ns.Ino, q)
	return q, nil
}

// list asks one question that has any number of answers.
func (q *questioner) list(m netlink.Message) ([]netlink.Message, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.conn.Execute(m)
}

// An answer is what the kernel says to one question: a message, or an error.
type answer struct {
	netlink.Message
	err error
}

// ask sends questions that have one answer each, some at a time, as many as the
// socket's buffer holds the answers of.
func (q *questioner) ask(ctx context.Context, questions []netlink.Message) ([]answer, error) {
	const atOnce = 32
	q.mu.Lock()
	defer q.mu.Unlock()
	answers := make([]answer, 0, len(questions))
	for len(questions) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(atOnce, len(questions))
		if _, err := q.conn.SendMessages(questions[:n]); err != nil {
			return nil, err
		}
		for range n {
			got, err := q.conn.Receive()
			if err == nil && len(got) != 1 {
				return nil, errors.New("nf_tables: want one answer to each question")
			}
			a := answer{err: err}
			if err == nil {
				a.Message = got[0]
			}
			answers = append(answers, a)
		}
		questions = questions[n:]
	}
	return answers, nil
}
