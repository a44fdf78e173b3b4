package nft

import (
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Closing a socket of nf_tables waits until the kernel has freed what recent
// transactions deleted, anybody's (nft_rcv_nl_event): a grace period of RCU, ten
// milliseconds or more. So sockets stay open until the process ends, by when
// the deletion of a link has waited for the same grace period.

// writer returns a connection for one transaction. Its socket closes with the
// process, or when the collector finds it unused.
func writer() *nftables.Conn {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return &nftables.Conn{} // Flush tries again, and says why not
	}
	return c
}

// reader returns a connection for listings.
func reader() *nftables.Conn { return writer() }

// sockets holds one socket a network namespace, for single questions.
var sockets sync.Map

// socket returns the socket for the namespace of this thread.
func socket() (*netlink.Conn, error) {
	var ns unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &ns); err != nil {
		return nil, err
	}
	if c, ok := sockets.Load(ns.Ino); ok {
		return c.(*netlink.Conn), nil
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err == nil {
		sockets.Store(ns.Ino, c)
	}
	return c, err
}
