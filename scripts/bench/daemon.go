package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/overlay/etcdstore"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

const (
	members   = 10 // hosts with a daemon each
	manyHosts = 1000
)

// daemonRow measures how soon the kernels of all hosts know of a new block, and
// what one daemon costs among many hosts.
func daemonRow(ctx context.Context, o options, r *report) error {
	lan, stop, err := newLAN(ctx)
	defer stop()
	if err != nil {
		return err
	}
	hosts := manyHosts
	if o.iterations < full.iterations {
		hosts = manyHosts / 10
	}
	network, crowd := overlayNet{"network", subnet, 7}, overlayNet{"crowd", subnet, 7}
	var known []string
	for i := 1; i <= members; i++ {
		m, startErr := lan.daemon(o, i, network)
		if startErr != nil {
			return startErr
		}
		defer m.end()
		known = append(known, m.name)
	}
	took, err := lan.claims(ctx, network, known, o.iterations)
	if err != nil {
		return err
	}
	slices.Sort(took)
	r.found(fmt.Sprintf("a new block is in the kernels of %d hosts, %d times: p99", members, len(took)), quantity(took[len(took)*99/100], "ms"))

	if err = lan.fill(ctx, crowd, hosts); err != nil {
		return err
	}
	start := time.Now()
	d, err := lan.daemon(o, members+1, crowd)
	if err != nil {
		return err
	}
	defer d.end()
	if err = d.awaitRoutes(hosts); err != nil {
		return err
	}
	r.found(fmt.Sprintf("a daemon that starts among %d hosts has converged after", hosts), quantity(float64(time.Since(start).Milliseconds()), "ms"))
	memory, err := residentMB(d.cmd.Process.Pid)
	r.found("and takes", quantity(memory, "MB"))
	return err
}

// A lan is a bridge of the sandbox, to which hosts are joined, with etcd on it.
type lan struct {
	home   string
	client *etcdstore.Client
}

const endpoint = "http://192.0.2.254:2379"

func newLAN(ctx context.Context) (lan, func(), error) {
	l := lan{home: "/run/overlay"}
	if err := shell("ip link add br0 type bridge; ip addr add 192.0.2.254/24 dev br0; ip link set br0 up; mkdir -p %s", l.home); err != nil {
		return lan{}, func() {}, err
	}
	etcd := exec.Command("etcd", "--data-dir", l.home+"/etcd",
		"--listen-client-urls", endpoint, "--advertise-client-urls", endpoint, "--listen-peer-urls", "http://127.0.0.1:2380")
	if err := etcd.Start(); err != nil {
		return lan{}, func() {}, err
	}
	stop := func() { _, _, _ = etcd.Process.Kill(), etcd.Wait(), shell("ip link del br0") }
	var err error
	if l.client, err = etcdstore.Dial(etcdstore.Access{Endpoints: []string{endpoint}}); err != nil {
		return l, stop, err
	}
	return l, stop, await(func() error {
		_, err := l.client.Get(ctx, "ready")
		return err
	})
}

type member struct {
	name string
	cmd  *exec.Cmd
}

func (m member) end() {
	_, _, _ = m.cmd.Process.Kill(), m.cmd.Wait(), shell("ip link del %s", m.name)
}

var subnet = netip.MustParsePrefix("10.0.0.0/8")

// An overlayNet is a network whose hosts meet in etcd.
type overlayNet struct {
	name   string
	subnet netip.Prefix
	vni    int
}

// daemon starts one for networks on a host of its own, and waits until it has a
// block of each.
func (l lan) daemon(o options, host int, networks ...overlayNet) (member, error) {
	path, err := newNetNS()
	if err != nil {
		return member{}, err
	}
	name := filepath.Base(path)
	if err = shell("ip link add %s up master br0 type veth peer name eth0 netns %[1]s; ip -n %[1]s addr add 192.0.2.%d/24 dev eth0; ip -n %[1]s link set eth0 up",
		name, host); err != nil {
		return member{}, err
	}
	dir := filepath.Join(l.home, name)
	args := []string{"netns", "exec", name, filepath.Join(o.ours, "vxlan-overlay"), "daemon"}
	for _, n := range networks {
		file, err := l.conflist(dir, n)
		if err != nil {
			return member{}, err
		}
		args = append(args, file)
	}
	cmd := exec.Command("ip", args...)
	if err := cmd.Start(); err != nil {
		return member{}, err
	}
	return member{name, cmd}, await(func() error {
		for _, n := range networks {
			b, err := os.ReadFile(filepath.Join(dir, n.name+".json"))
			if err == nil && !strings.Contains(string(b), "/24") {
				err = errors.New("no block yet")
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (l lan) conflist(dir string, n overlayNet) (file string, err error) {
	conf, err := json.Marshal(object{"cniVersion": "1.0.0", "name": n.name, "plugins": []any{object{
		"type": "vxlan-overlay", "subnets": []any{n.subnet.String()}, "vni": n.vni, "underlay": "eth0", "stateDir": dir,
		"etcd": object{"endpoints": []any{endpoint}}, "ipam": object{"type": "host-local", "dataDir": dir + "/leases"},
	}}})
	if err != nil {
		return "", err
	}
	file = dir + "-" + n.name + ".conflist"
	return file, os.WriteFile(file, conf, 0o600)
}

// join makes a host known that has no kernel behind it.
func (l lan) join(ctx context.Context, n overlayNet, address netip.Addr) (*etcdstore.Store, error) {
	s := etcdstore.New(ctx, l.client, etcdstore.Options{
		Prefix: "/dockyard/overlay", Name: n.name, ID: address.String(), TTL: 30 * time.Second, Reclaim: time.Hour, Log: slog.New(slog.DiscardHandler),
		Network: etcdstore.Network{Subnets: []netip.Prefix{n.subnet}, VNI: n.vni, Port: 4789}, Self: peer.Host{Address: address},
	})
	return s, s.Register(ctx)
}

// claims returns how many milliseconds each of n new blocks took to be in the
// kernels of all hosts.
func (l lan) claims(ctx context.Context, network overlayNet, hosts []string, n int) (took []float64, err error) {
	s, err := l.join(ctx, network, netip.MustParseAddr("192.0.2.200"))
	if err != nil {
		return nil, err
	}
	for range n {
		start := time.Now()
		block, err := s.Claim(ctx, network.subnet, 24)
		if err != nil {
			return nil, err
		}
		for _, h := range hosts {
			if err := await(func() error {
				out, err := exec.Command("ip", "-n", h, "route", "show", block.String()).Output()
				if err == nil && len(out) == 0 {
					err = fmt.Errorf("%s has no route to %s", h, block)
				}
				return err
			}); err != nil {
				return nil, err
			}
		}
		took = append(took, float64(time.Since(start).Microseconds())/1000)
	}
	return took, nil
}

// fill makes hosts known with a block each.
func (l lan) fill(ctx context.Context, network overlayNet, n int) error {
	return many(n, func(i int) error {
		s, err := l.join(ctx, network, simulated(i))
		if err == nil {
			_, err = s.Claim(ctx, network.subnet, 24)
		}
		return err
	})
}

// simulated is the address of a host that has no kernel.
func simulated(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}) }

// many does n things, some at a time.
func many(n int, f func(i int) error) (all error) {
	turn, errs := make(chan struct{}, 16), make(chan error, n)
	for i := range n {
		turn <- struct{}{}
		go func() {
			defer func() { <-turn }()
			errs <- f(i)
		}()
	}
	for range n {
		all = errors.Join(all, <-errs)
	}
	return all
}

func await(f func() error) (err error) {
	for start := time.Now(); time.Since(start) < 30*time.Second; {
		if err = f(); err == nil {
			return nil
		}
	}
	return err
}

func shell(format string, args ...any) error {
	script := "set -e; " + fmt.Sprintf(format, args...)
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return nil
}
