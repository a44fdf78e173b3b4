// Package sysctl is settings below /proc/sys/net as resources.
package sysctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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
			if there && diff == engine.Same {
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
func (s Setting) Apply(context.Context) error {
	return s.NS.Do(func() error {
		for i, name := range s.Names {
			if err := write(root+name, s.Values[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

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
// advertisements unless accept_ra is 2, and would lose its own default route;
// so links that listen to them are told to go on first
// (kernel: Documentation/networking/ip-sysctl.rst).
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
	paths, err := filepath.Glob(root + "net/ipv6/conf/*/accept_ra")
	if err != nil {
		return err
	}
	for _, p := range paths {
		if link := filepath.Base(filepath.Dir(p)); link == "all" || link == "default" || link == "lo" {
			continue // not links that a router could be on
		}
		if b, err := os.ReadFile(p); err != nil || strings.TrimSpace(string(b)) != "1" {
			continue // gone meanwhile, or not listening
		}
		if err := os.WriteFile(p, []byte("2"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep router advertisements: %w", err)
		}
	}
	return nil
}
