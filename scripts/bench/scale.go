package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	clientv3 "go.etcd.io/etcd/client/v3" //nolint:depguard // for watches of which nobody keeps a list

	"github.com/dockyard-cni/dockyard/pkg/overlay/etcdstore"
)

// scaleRow measures one daemon among many hosts on many networks, and the etcd
// that they meet in. The other hosts are registered and hold blocks as daemons
// do, under leases that are kept, but have no kernel, and watch at the end alone.
func scaleRow(ctx context.Context, o options, r *report) error {
	l, stop, err := newLAN(ctx)
	defer stop()
	if err != nil {
		return err
	}
	var networks []overlayNet
	for i := range o.networks {
		networks = append(networks, overlayNet{fmt.Sprintf("net%d", i), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i) << 4}), 12), 100 + i})
	}
	crowd, clients, err := l.crowd(ctx, networks, o.hosts-1)
	if err != nil {
		return err
	}
	others := len(crowd)
	what := fmt.Sprintf("%d hosts x %d networks", o.hosts, o.networks)

	start := time.Now()
	d, err := l.daemon(o, 1, networks...)
	if err != nil {
		return err
	}
	defer d.end()
	if err = d.awaitRoutes(others); err != nil {
		return err
	}
	r.found(fmt.Sprintf("%s: a daemon has converged from nothing after", what), quantity(time.Since(start).Seconds(), "s"))
	first, err := l.usage(ctx, d)
	if err != nil {
		return err
	}
	r.found("of which it computes", quantity(first.cpu, "s"))
	r.found("and receives from etcd", quantity(first.received/1e6, "MB"))

	if err = many(others, func(i int) error {
		_, claimErr := crowd[i].Claim(ctx, crowd[i].Network.Subnets[0], 24)
		return claimErr
	}); err != nil {
		return err
	}
	last := time.Now()
	if err = d.awaitRoutes(2 * others); err != nil {
		return errors.Join(err, l.expired(ctx, networks, o.hosts))
	}
	r.found(fmt.Sprintf("all %d others claim a further block in each: converged after the last claim", o.hosts-1), quantity(float64(time.Since(last).Milliseconds()), "ms"))
	if err = l.atRest(ctx, o, r, d, first); err != nil {
		return err
	}
	return l.spread(ctx, o, r, networks, clients, crowd[0])
}

// spread has all hosts watch all networks, and says when a change of one has come
// to all who watch it.
func (l lan) spread(ctx context.Context, o options, r *report, networks []overlayNet, clients []*etcdstore.Client, s *etcdstore.Store) error {
	heard := make(chan struct{}, len(clients))
	for _, c := range clients {
		for _, n := range networks {
			events := c.Watch(ctx, "/dockyard/overlay/"+n.name+"/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
			if first := <-events; !first.Created {
				return fmt.Errorf("watch: %w", first.Err())
			}
			go func() {
				for range events {
					heard <- struct{}{}
				}
			}()
		}
	}
	var took []float64
	for range o.iterations {
		start := time.Now()
		if _, err := s.Claim(ctx, networks[0].subnet, 24); err != nil {
			return err
		}
		for range clients {
			<-heard
		}
		took = append(took, float64(time.Since(start).Microseconds())/1000)
	}
	slices.Sort(took)
	r.found(fmt.Sprintf("with %d watches, a claim has been told to all %d hosts of its network: p99 of %d", len(clients)*len(networks), len(clients), len(took)), quantity(took[len(took)*99/100], "ms"))
	u := usage{}
	err := scrape(map[string]*float64{"process_resident_memory_bytes": &u.etcdMemory})
	r.found("memory of etcd with these", quantity(u.etcdMemory/1e6, "MB"))
	return err
}

// expired says so if hosts are missing because this machine was too busy to keep
// their leases.
func (l lan) expired(ctx context.Context, networks []overlayNet, hosts int) error {
	for _, n := range networks {
		res, err := l.client.Get(ctx, "/dockyard/overlay/"+n.name+"/hosts/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil && int(res.Count) < hosts {
			err = fmt.Errorf("network %s: etcd has %d hosts of %d: their leases were not kept", n.name, res.Count, hosts)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// atRest says what a daemon and etcd take when nothing happens.
func (l lan) atRest(ctx context.Context, o options, r *report, d member, first usage) error {
	time.Sleep(o.watched / 10) // what is still under way
	before, err := l.usage(ctx, d)
	if err != nil {
		return err
	}
	r.found("the daemon computes for it", quantity(before.cpu-first.cpu, "s"))
	r.found("and receives from etcd", quantity((before.received-first.received)/1e6, "MB"))
	time.Sleep(o.watched)
	after, err := l.usage(ctx, d)
	if err != nil {
		return err
	}
	minutes := o.watched.Minutes()
	r.found("memory of the daemon", quantity(after.memory, "MB"))
	r.found("at rest, a minute: the daemon computes", quantity((after.cpu-before.cpu)/minutes*1000, "ms"))
	r.found("the daemon receives from etcd", quantity((after.received-before.received)/minutes/1e3, "kB"))
	r.found("writes to etcd (revisions)", quantity((after.revision-before.revision)/minutes, ""))
	r.found("keepalives of leases", quantity((after.keepalives-before.keepalives)/minutes, ""))
	r.found("etcd computes", quantity((after.etcdCPU-before.etcdCPU)/minutes, "s"))
	r.found("memory of etcd", quantity(after.etcdMemory/1e6, "MB"))
	return nil
}

// crowd makes hosts known on all networks with a block in each. What a host has on
// several networks comes over one connection, as from a daemon.
func (l lan) crowd(ctx context.Context, networks []overlayNet, hosts int) (all []*etcdstore.Store, clients []*etcdstore.Client, err error) {
	all, clients = make([]*etcdstore.Store, hosts*len(networks)), make([]*etcdstore.Client, hosts)
	return all, clients, many(hosts, func(i int) error {
		own := l
		var err error
		if own.client, err = etcdstore.Dial(etcdstore.Access{Endpoints: []string{endpoint}}); err != nil {
			return err
		}
		clients[i] = own.client
		for k, n := range networks {
			s, err := own.join(ctx, n, simulated(i))
			if err == nil {
				_, err = s.Claim(ctx, n.subnet, 24)
			}
			if err != nil {
				return err
			}
			all[i*len(networks)+k] = s
		}
		return nil
	})
}

// awaitRoutes waits for so many routes to other hosts, whatever the network.
func (m member) awaitRoutes(n int) error {
	ns, err := vns.GetFromPath(filepath.Join(netnsDir, m.name))
	if err != nil {
		return err
	}
	defer ns.Close() //nolint:errcheck // nothing was written
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	return await(func() error {
		time.Sleep(10 * time.Millisecond) // leaves the processor to whom is waited for
		routes, err := h.RouteList(nil, netlink.FAMILY_V4)
		found := 0
		for _, r := range routes {
			if r.Gw != nil {
				found++
			}
		}
		if err == nil && found < n {
			err = fmt.Errorf("%s has %d routes to other hosts, want %d", m.name, found, n)
		}
		return err
	})
}

// usage is what a daemon and etcd have taken so far.
type usage struct {
	cpu, memory, received                     float64 // s, MB, B by the host's uplink
	revision, keepalives, etcdCPU, etcdMemory float64
}

func (l lan) usage(ctx context.Context, m member) (u usage, err error) {
	if u.cpu, err = cpuTime(m.cmd.Process.Pid); err != nil {
		return u, err
	}
	if u.memory, err = residentMB(m.cmd.Process.Pid); err != nil {
		return u, err
	}
	if u.received, err = procNumber(m.cmd.Process.Pid, "net/dev", uplink+":"); err != nil {
		return u, err
	}
	res, err := l.client.Get(ctx, "any")
	if err != nil {
		return u, err
	}
	u.revision = float64(res.Header.Revision)
	return u, scrape(map[string]*float64{
		"process_cpu_seconds_total": &u.etcdCPU, "process_resident_memory_bytes": &u.etcdMemory,
		`grpc_server_msg_received_total{grpc_method="LeaseKeepAlive",grpc_service="etcdserverpb.Lease",grpc_type="bidi_stream"}`: &u.keepalives,
	})
}

// cpuTime is the seconds that a process has computed (proc_pid_stat(5): utime and
// stime, in hundredths).
func cpuTime(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var user, system float64
	_, err = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	return (user + system) / 100, err
}

// procNumber is the number behind a label in a file below /proc/PID.
func procNumber(pid int, file, label string) (n float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), label)
	_, err = fmt.Sscan(rest, &n)
	return n, err
}

// residentMB is the memory of a process, in units of 10^6 bytes.
func residentMB(pid int) (float64, error) {
	kB, err := procNumber(pid, "status", "VmRSS:") // of 1024
	return kB * 1024 / 1e6, err
}

// scrape reads metrics of etcd.
func scrape(wanted map[string]*float64) error {
	res, err := http.Get(endpoint + "/metrics")
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	lines := bufio.NewScanner(res.Body)
	found := 0
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "} ")
		if strings.Contains(name, "{") {
			name += "}"
		} else {
			name, value, _ = strings.Cut(lines.Text(), " ")
		}
		if into := wanted[name]; into != nil {
			found++
			if _, err := fmt.Sscan(value, into); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil || found == len(wanted) {
		return err
	}
	return fmt.Errorf("etcd: %d of %d metrics are there", found, len(wanted))
}
