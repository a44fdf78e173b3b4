// Package host is what commands do on this host: they write and remove conflists,
// attach containers through libcni, and take away what networks have left.
package host

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/spec"
	"github.com/dockyard-cni/dockyard/pkg/daemon/filelock"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
	"github.com/dockyard-cni/dockyard/pkg/ipam/lease"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
)

// A Host is this host, as it was when it was read.
type Host struct {
	inventory.Config
	*inventory.Inventory
	Warn func(text string)
}

// Lock keeps other commands from changing networks, until it is released, and reads
// the host.
func Lock(ctx context.Context, c inventory.Config, warn func(string)) (*Host, func(), error) {
	if unix.Geteuid() != 0 {
		return nil, nil, fmt.Errorf("%w, to change networks", inventory.ErrRoot)
	}
	dir := c.ConfDirs[0]
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	release, err := filelock.Acquire(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	inv, err := inventory.Read(ctx, c)
	if err != nil {
		release()
		return nil, nil, err
	}
	return &Host{Config: c, Inventory: inv, Warn: warn}, release, nil
}

// Refresh reads the host again, after a change.
func (h *Host) Refresh(ctx context.Context) (err error) {
	h.Inventory, err = inventory.Read(ctx, h.Config)
	return err
}

// CNI calls plugins as the host's runtimes do, with their cache.
func (h *Host) CNI() *libcni.CNIConfig {
	exec := &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: warnings(h.Warn)}}
	return libcni.NewCNIConfigWithCacheDir(h.BinDirs, h.CNIDirs[0], exec)
}

// warnings takes what plugins write to stderr, which is slog's text: a person sees
// what it says.
type warnings func(string)

var message = regexp.MustCompile(`msg=("(?:[^"\\]|\\.)*"|\S+)`)

func (w warnings) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		text := strings.TrimSpace(line)
		if m := message.FindStringSubmatch(line); m != nil {
			text = m[1]
			if quoted, err := strconv.Unquote(text); err == nil {
				text = quoted
			}
		}
		w(text)
	}
	return len(b), nil
}

// Taken implements spec.Host.
func (h *Host) Taken(name string) string {
	for _, l := range h.Links {
		if l.Name == name {
			return "a link of type " + l.Kind
		}
	}
	for _, n := range h.Networks {
		if n.Bridge == name {
			return "network " + n.Name
		}
	}
	return ""
}

// used are the subnets that a new one must leave alone.
func (h *Host) used() (spec.Used, error) {
	used := spec.Used{}
	for _, n := range h.Networks {
		for _, s := range n.Subnets {
			used.Add(s.Subnet, "network "+n.Name)
		}
	}
	prefixes, err := route.Prefixes()
	if err != nil {
		return nil, err
	}
	for _, p := range prefixes {
		used.Add(p, "a route or address of the host")
	}
	for _, a := range nameservers() {
		used.Add(netip.PrefixFrom(a, a.BitLen()), "a nameserver")
	}
	return used, h.leased(used)
}

// leased adds what networks without a file have leased.
func (h *Host) leased(used spec.Used) error {
	dirs := []string{inventory.DefaultDataDir}
	for _, n := range h.Networks {
		if n.DataDir != "" && !slices.Contains(dirs, n.DataDir) {
			dirs = append(dirs, n.DataDir)
		}
	}
	for _, dir := range dirs {
		networks, err := lease.Networks(dir)
		if err != nil {
			return err
		}
		for _, n := range networks {
			held, err := lease.List(dir, n)
			if err != nil {
				return err
			}
			for _, l := range held {
				used.Add(netip.PrefixFrom(l.Addr, l.Addr.BitLen()), "a lease of network "+n)
			}
		}
	}
	return nil
}

// Subnets chooses subnets for one network. It implements spec.Host.
type Subnets struct {
	*Host
	Network, Driver string
}

// Subnet implements spec.Host.
func (s Subnets) Subnet(ipv6 bool) (netip.Prefix, error) {
	used, err := s.used()
	if err != nil {
		return netip.Prefix{}, err
	}
	var p netip.Prefix
	switch {
	case s.Driver == "overlay":
		p = spec.Overlay(s.Network, ipv6)
	case ipv6:
		machine, err := os.ReadFile("/etc/machine-id")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return p, err
		}
		p = spec.ULA(strings.TrimSpace(string(machine)), s.Network)
	default:
		return spec.Pick(s.Pools, used)
	}
	if by := used.Overlaps(p); by != "" {
		return p, fmt.Errorf("subnet %s, which would be this network's, overlaps with %s; give --subnet", p, by)
	}
	return p, nil
}

// nameservers are those that the host asks.
func nameservers() (out []netip.Addr) {
	f, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	defer f.Close() //nolint:errcheck // only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// temporary begins the names of files that are being written.
const temporary = ".dockyard-"

// write makes a file appear whole or not at all; it fails if there is one.
func write(path string, data []byte) error {
	dir := filepath.Dir(path)
	left, err := filepath.Glob(filepath.Join(dir, temporary+"*"))
	for _, f := range left { // by one that was killed: the lock is ours
		err = errors.Join(err, os.Remove(f))
	}
	if err != nil {
		return err
	}
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails
	temp := filepath.Join(dir, temporary+hex.EncodeToString(random))
	if err := writeSynced(temp, data); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return errors.Join(os.Link(temp, path), os.Remove(temp))
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
