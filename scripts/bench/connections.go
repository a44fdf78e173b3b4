package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const clients = 4

// connectionRow measures how many connections a second a client outside can make
// to a published port: each new one is looked up among all mappings.
func connectionRow(ctx context.Context, o options, r *report) error {
	ours, iptables, nftables := contenders(o)
	crowds := []crowd{
		{ours, 1}, {iptables, 1}, {nftables, 1},
		{ours, o.mappings}, {iptables, o.iptables}, {nftables, o.mappings},
	}
	sites, found, err := publishAll(ctx, "conns", crowds)
	if err != nil {
		return err
	}
	defer closeSites(sites)
	outside := map[*site]string{}
	for _, s := range sites {
		var stop func()
		if stop, err = serve(found[s].netns); err != nil {
			return err
		}
		defer stop()
		if outside[s], err = connectOutside(s.host); err != nil {
			return err
		}
	}
	if err := alternate(ctx, o.rounds, sites, func(s *site, _ int) error {
		rate, err := connectFor(o.round, outside[s], found[s].middle())
		s.samples["rate"] = append(s.samples["rate"], rate)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		return nil
	}); err != nil {
		return err
	}
	reportCrowds(sites, found, func(ours, reference *published) {
		r.compareRate(fmt.Sprintf("new connections through a published port, %d mappings present", ours.count),
			fmt.Sprintf("%s; %d present", reference.backendName(), reference.count), "/s",
			ours.median("rate"), reference.median("rate"))
	})
	r.flat(fmt.Sprintf("ours: new connections, %d mappings against 1", o.mappings), "/s",
		sites[3].median("rate"), sites[0].median("rate"))
	return nil
}

// serve answers each connection to port 80 in the namespace with one byte.
func serve(netns string) (stop func(), err error) {
	var listener net.Listener
	err = inNetNS(netns, func() error {
		listener, err = net.Listen("tcp", ":80")
		return err
	})
	if err != nil {
		return nil, err
	}
	for range 2 {
		go func() {
			for {
				conn, err := listener.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				} else if err != nil {
					continue
				}
				_, _ = conn.Write([]byte{'.'})
				_ = conn.Close()
			}
		}()
	}
	return func() { _ = listener.Close() }, nil
}

// connectOutside joins a namespace to the host by a link, as another machine is
// by a wire: 192.0.2.1 is the host there.
func connectOutside(h *host) (string, error) {
	outside, err := newNetNS()
	if err != nil {
		return "", err
	}
	fd, err := os.Open(outside)
	if err != nil {
		return "", err
	}
	defer fd.Close() //nolint:errcheck // nothing was written
	wire := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "wire0"}, PeerName: "wire0", PeerNamespace: netlink.NsFd(int(fd.Fd()))}
	if err := h.do(func() error { return netlink.LinkAdd(wire) }); err != nil {
		return "", fmt.Errorf("wire: %w", err)
	}
	if err := h.do(func() error { return addressWire("192.0.2.1/24") }); err != nil {
		return "", err
	}
	return outside, inNetNS(outside, func() error {
		// More ports than the default, as each connection takes a new one.
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("1024 65535"), 0o644); err != nil {
			return err
		}
		return addressWire("192.0.2.2/24")
	})
}

func addressWire(cidr string) error {
	link, err := netlink.LinkByName("wire0")
	if err != nil {
		return err
	}
	address, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, address); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// connectFor connects from the namespace to a port of 192.0.2.1 for so long and
// returns the connections made a second.
func connectFor(duration time.Duration, netns string, port int) (float64, error) {
	var made atomic.Int64
	var wait sync.WaitGroup
	errs := make(chan error, clients)
	start := time.Now()
	for range clients {
		wait.Go(func() {
			errs <- inNetNS(netns, func() error {
				for time.Since(start) < duration {
					if err := connectOnce(port); err != nil {
						return fmt.Errorf("after %d connections: %w", made.Load(), err)
					}
					made.Add(1)
				}
				return nil
			})
		})
	}
	wait.Wait()
	close(errs)
	var failed error
	for err := range errs {
		failed = errors.Join(failed, err)
	}
	return float64(made.Load()) / time.Since(start).Seconds(), failed
}

// connectOnce connects, waits for the byte, and resets, so that no port is kept
// in TIME-WAIT. System calls, not package net, as those are what is to be measured.
func connectOnce(port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // it is reset
	second := unix.Timeval{Sec: 2}
	err = errors.Join(
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &second),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &second),
	)
	if err != nil {
		return err
	}
	if err = unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{192, 0, 2, 1}}); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	var answer [1]byte
	n, err := unix.Read(fd, answer[:])
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}
