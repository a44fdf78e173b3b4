// Package sysctl is settings below /proc/sys/net as resources.
package sysctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

const root = "/proc/sys/"

// A Setting is a few sysctls of one namespace. Names are paths below /proc/sys
// ("net/ipv4/conf/eth0/arp_notify"), as a link's name may hold dots. Those that
// the kernel does not have, such as all of IPv6 under ipv6.disable=1, are left out.
type Setting struct {
	NS     *netns.NS
	Names  []string
	Values []string
	// Optional says that the attachment works without: where /proc/sys is read-only,
	// Apply warns, and Observe takes what it finds.
	Optional bool
}

// Try is Set for what is Optional.
func Try(ns *netns.NS, pairs ...string) Setting {
	s := Set(ns, pairs...)
	s.Optional = true
	return s
}

// Set returns the setting of names to values, given in turn.
func Set(ns *netns.NS, pairs ...string) Setting {
	s := Setting{NS: ns}
	for i := 0; i+1 < len(pairs); i += 2 {
		s.Names, s.Values = append(s.Names, pairs[i]), append(s.Values, pairs[i+1])
	}
	return s
}

// Key implements engine.Resource.
func (s Setting) Key() string { return "sysctl " + s.NS.String() + strings.Join(s.Names, " ") }

func (s Setting) String() string {
	var words []string
	for i, name := range s.Names {
		words = append(words, name+"="+s.Values[i])
	}
	prefix := ""
	if s.NS.Path() != "" {
		prefix = "nsenter --net=" + s.NS.Path() + " "
	}
	return prefix + "sysctl -w " + strings.Join(words, " ")
}

// Observe implements engine.Resource.
func (s Setting) Observe(context.Context) (diff engine.Diff, err error) {
	err = s.NS.Do(func() error {
		for i, name := range s.Names {
			found, there, readErr := read(root + name)
			if readErr != nil {
				return readErr
			}
			if there && diff == engine.Same && (!s.Optional || !readOnly(root+name)) {
				diff = engine.Differ(name, found, s.Values[i])
			}
		}
		return nil
	})
	return diff, err
}

// Has reports whether the kernel has all of the settings, with these values.
func (s Setting) Has() (bool, error) {
	all := true
	err := s.NS.Do(func() error {
		for i, name := range s.Names {
			found, there, err := read(root + name)
			if err != nil {
				return err
			}
			all = all && there && found == s.Values[i]
		}
		return nil
	})
	return all, err
}

// BridgesFiltered reports whether the host's forward chains see what is bridged
// (br_netfilter).
func BridgesFiltered() (bool, error) {
	return Set(netns.Host(), "net/bridge/bridge-nf-call-iptables", "1", "net/bridge/bridge-nf-call-ip6tables", "1").Has()
}

// Apply writes only what differs, for which reading is cheaper.
func (s Setting) Apply(ctx context.Context) error {
	return s.NS.Do(func() error {
		for i, name := range s.Names {
			err := write(root+name, s.Values[i])
			if s.Optional && errors.Is(err, unix.EROFS) {
				engine.Warn(ctx, fmt.Sprintf("/proc/sys is read-only, so %s%s is not set to %s", s.NS, name, s.Values[i]))
				continue
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func readOnly(path string) bool { return errors.Is(unix.Access(path, unix.W_OK), unix.EROFS) }

// read returns a setting's value, and whether the kernel has the setting.
func read(path string) (value string, there bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	return strings.TrimSpace(string(b)), err == nil, err
}

func write(path, value string) error {
	found, there, err := read(path)
	if err != nil || !there || found == value {
		return err
	}
	return os.WriteFile(path, []byte(value), 0)
}

// Remove has nothing to do: a link's settings go with the link, and what others
// may rely on by now is not taken back.
func (s Setting) Remove(context.Context) error { return nil }

// Forwarding lets the host forward packets of one family between its links.
type Forwarding struct{ IPv6 bool }

func (f Forwarding) setting() Setting {
	if f.IPv6 {
		return Set(netns.Host(), "net/ipv6/conf/all/forwarding", "1")
	}
	return Set(netns.Host(), "net/ipv4/ip_forward", "1")
}

// Key implements engine.Resource.
func (f Forwarding) Key() string { return f.setting().Key() }

func (f Forwarding) String() string { return f.setting().String() }

// Observe implements engine.Resource.
func (f Forwarding) Observe(ctx context.Context) (engine.Diff, error) {
	return f.setting().Observe(ctx)
}

// Apply implements engine.Resource. A host that forwards IPv6 ignores router
// advertisements unless accept_ra is 2, and would lose its own default route; so
// links by which it has one, or an address, are told to go on first
// (kernel: Documentation/networking/ip-sysctl.rst). Links of others, such as the
// host's ends of virtual machines, are not: the host heeds nobody new.
func (f Forwarding) Apply(ctx context.Context) error {
	diff, err := f.Observe(ctx)
	if err != nil || diff == engine.Same {
		return err
	}
	if f.IPv6 {
		if err := keepRouterAdvertisements(); err != nil {
			return err
		}
	}
	return f.setting().Apply(ctx)
}

// Remove has nothing to do: others may rely on it.
func (f Forwarding) Remove(context.Context) error { return nil }

func keepRouterAdvertisements() error {
	names, err := autoconfigured()
	if err != nil {
		return err
	}
	for _, name := range names {
		p := root + "net/ipv6/conf/" + name + "/accept_ra"
		if b, err := os.ReadFile(p); err != nil || strings.TrimSpace(string(b)) != "1" {
			continue // gone meanwhile, or not listening
		}
		if err := os.WriteFile(p, []byte("2"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep router advertisements: %w", err)
		}
	}
	return nil
}

// autoconfigured returns the links of the host that have a route from a router
// advertisement, or an address that will expire unless it is renewed.
func autoconfigured() (names []string, err error) {
	h, err := netns.Host().Netlink()
	if err != nil {
		return nil, err
	}
	routes, err := netns.Dump(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(unix.AF_INET6, &netlink.Route{Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	addrs, err := netns.Dump(func() ([]netlink.Addr, error) { return h.AddrList(nil, unix.AF_INET6) })
	if err != nil {
		return nil, fmt.Errorf("addresses: %w", err)
	}
	links := map[int]bool{}
	for _, r := range routes {
		links[r.LinkIndex] = true
		for _, hop := range r.MultiPath {
			links[hop.LinkIndex] = true
		}
	}
	for _, a := range addrs {
		if a.Flags&unix.IFA_F_PERMANENT == 0 {
			links[a.LinkIndex] = true
		}
	}
	for index := range links {
		if l, err := h.LinkByIndex(index); err == nil { // else it is gone meanwhile
			names = append(names, l.Attrs().Name)
		}
	}
	return names, nil
}
