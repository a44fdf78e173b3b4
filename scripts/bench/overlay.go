package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// overlayRow measures what a network on many hosts costs beside one on a bridge,
// and what its containers get through beside a VXLAN made by hand.
func overlayRow(ctx context.Context, o options, r *report) error {
	if err := overlayChain(ctx, o, r); err != nil {
		return err
	}
	return overlayTraffic(ctx, o, r, flannelPair)
}

func overlayChain(ctx context.Context, o options, r *report) error {
	ours, _, _ := contenders(o)
	sites, err := newSites("overlay", ours.dualStack(), ours.dualStack(), ours.dualStack())
	if err != nil {
		return err
	}
	defer closeSites(sites)
	const few, many = 3, 100
	for i, hosts := range map[int]int{1: few, 2: many} {
		sites[i].name = fmt.Sprintf("overlay of %d hosts", hosts)
		if sites[i].network, err = overlayList(fmt.Sprintf("overlay%d", i), hosts, "192.0.2.1"); err != nil {
			return err
		}
		if _, err = connectOutside(sites[i].host); err != nil {
			return err
		}
	}
	if err := fill(ctx, sites, 0); err != nil {
		return err
	}
	if err := chainAt(ctx, o, sites, 0); err != nil {
		return err
	}
	for _, verb := range []string{"ADD", "DEL"} {
		bridge := sites[0].median(verb + at(0))
		r.flat(fmt.Sprintf("ours: %s, overlay of %d hosts against bridge, dual stack, 1 port", verb, few), "ms", sites[1].median(verb+at(0)), bridge)
		r.flat(fmt.Sprintf("ours: %s, overlay of %d hosts against bridge", verb, many), "ms", sites[2].median(verb+at(0)), bridge)
	}
	return nil
}

// overlayList is a network on hosts of which the first ones are 192.0.2.1 and
// 192.0.2.2, as seen from one of them.
func overlayList(name string, hosts int, self string) (*libcni.NetworkConfigList, error) {
	var peers []any
	for i := 1; i <= hosts; i++ {
		peers = append(peers, object{
			"address": fmt.Sprintf("192.0.2.%d", i), "blocks": []any{fmt.Sprintf("10.90.%d.0/24", i), fmt.Sprintf("fd00:90:0:%d::/64", i)},
		})
	}
	data, err := json.Marshal(object{"cniVersion": "1.0.0", "name": name, "plugins": []any{
		object{
			"type": "vxlan-overlay", "bridge": "br0", "subnets": []any{"10.90.0.0/16", "fd00:90::/48"}, "vni": 90,
			"underlay": self, "peers": peers, "hairpinMode": true, "ipam": object{"type": "host-local", "dataDir": "/var/lib/cni/" + self},
		},
		object{"type": "portmap", "capabilities": object{"portMappings": true}},
	}})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(data)
}

// overlayTraffic sends between containers on two hosts that a link joins.
func overlayTraffic(ctx context.Context, o options, r *report, others ...maker) error {
	pairs, err := ownPairs(ctx, o)
	if err != nil {
		return err
	}
	for _, other := range others {
		p, stop, err := other(ctx, o)
		defer stop()
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		pairs = append(pairs, p)
	}
	for _, p := range pairs {
		server := exec.Command("ip", "netns", "exec", p.to, "iperf3", "-s")
		if err := server.Start(); err != nil {
			return err
		}
		defer func() { _, _ = server.Process.Kill(), server.Wait() }()
		if err := p.reachable(ctx); err != nil {
			return err
		}
	}
	rates, rtts := map[*pair][]float64{}, map[*pair][]float64{}
	for i := range 2 * o.rounds {
		for k := range pairs {
			p := pairs[(i+k)%len(pairs)]
			rate, rtt, err := p.measure(o)
			if err != nil {
				return err
			}
			rates[p], rtts[p] = append(rates[p], rate), append(rtts[p], rtt)
		}
	}
	ours := pairs[0]
	for _, p := range pairs[1:] {
		r.compareRate("TCP between containers on two hosts", p.name, "Gbit/s", median(rates[ours]), median(rates[p]))
	}
	for _, p := range pairs[1:] {
		r.compare("round trip between them", p.name, "µs", median(rtts[ours]), median(rtts[p]))
	}
	return nil
}

// A pair is two containers, by the names of their namespaces.
type pair struct{ name, from, to, address string }

// A maker makes two hosts with a container each, on a network of somebody else's,
// and says how to end what serves it, also with an error.
type maker func(context.Context, options) (p *pair, stop func(), err error)

// twoHosts makes two hosts that a link joins, 192.0.2.1 and 192.0.2.2. What runs
// f is on the thread of one of them.
func twoHosts() (on []func(f func() error) error, err error) {
	host, err := newHost()
	if err != nil {
		return nil, err
	}
	outside, err := connectOutside(host)
	if err != nil {
		return nil, err
	}
	on = []func(func() error) error{host.do, func(f func() error) error { return inNetNS(outside, f) }}
	for _, do := range on {
		if err := do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) }); err != nil {
			return nil, err
		}
	}
	return on, nil
}

// ownPairs makes two hosts with two pairs of containers: one by the plugin, one by
// hand.
func ownPairs(ctx context.Context, o options) ([]*pair, error) {
	ours, byHand := &pair{}, &pair{name: "a VXLAN by hand, with bridges, without firewall", address: "10.91.2.2"}
	on, err := twoHosts()
	if err != nil {
		return nil, err
	}
	for i, do := range on {
		self, end := fmt.Sprintf("192.0.2.%d", i+1), []*string{&ours.from, &ours.to}[i]
		list, err := overlayList("traffic", 2, self)
		if err != nil {
			return nil, err
		}
		path, err := newNetNS()
		if err != nil {
			return nil, err
		}
		*end = filepath.Base(path)
		add := func() error {
			cni := libcni.NewCNIConfigWithCacheDir([]string{o.ours}, "/run/bench-cache", nil)
			res, addErr := cni.AddNetworkList(ctx, list, attachment(*end, path, []any{}))
			if addErr != nil {
				return addErr
			}
			result, addErr := current.NewResultFromResult(res)
			if addErr == nil {
				ours.address = result.IPs[0].Address.IP.String()
			}
			return errors.Join(addErr, handMade(self, i+1, []*string{&byHand.from, &byHand.to}[i]))
		}
		if err := do(add); err != nil {
			return nil, err
		}
	}
	return []*pair{ours, byHand}, nil
}

// handMade does what the plugin does, with ip and bridge, for host n of two.
func handMade(self string, n int, container *string) error {
	path, err := newNetNS()
	if err != nil {
		return err
	}
	*container = filepath.Base(path)
	other := 3 - n
	return commands(
		fmt.Sprintf("ip link add vx91 address 02:00:00:00:00:0%d mtu 1450 type vxlan id 91 dstport 4789 local %s nolearning", n, self),
		"ip link set vx91 up",
		"ip link add br91 mtu 1450 type bridge",
		fmt.Sprintf("ip addr add 10.91.%d.1/24 dev br91", n),
		"ip link set br91 up",
		fmt.Sprintf("ip link add v91 mtu 1450 type veth peer name eth0 mtu 1450 netns %s", *container),
		"ip link set v91 master br91 up",
		fmt.Sprintf("ip -n %s addr add 10.91.%d.2/24 dev eth0", *container, n),
		fmt.Sprintf("ip -n %s link set eth0 up", *container),
		fmt.Sprintf("ip -n %s route add default via 10.91.%d.1", *container, n),
		fmt.Sprintf("bridge fdb append 02:00:00:00:00:0%d dev vx91 dst 192.0.2.%d", other, other),
		fmt.Sprintf("ip neigh add 10.91.%d.1 lladdr 02:00:00:00:00:0%d dev vx91", other, other),
		fmt.Sprintf("ip route add 10.91.%d.0/24 via 10.91.%d.1 dev vx91 onlink", other, other),
	)
}

// commands runs them on this thread's host.
func commands(all ...string) error {
	for _, command := range all {
		words := strings.Fields(command)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, out)
		}
	}
	return nil
}

// reachable returns when the server answers.
func (p *pair) reachable(ctx context.Context) error {
	return inNetNS(filepath.Join(netnsDir, p.from), func() error {
		for {
			conn, err := net.DialTimeout("tcp", net.JoinHostPort(p.address, "5201"), time.Second)
			if err == nil {
				return conn.Close()
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
}

// measure returns Gbit/s of one TCP connection, and the average round trip in µs.
func (p *pair) measure(o options) (rate, rtt float64, err error) {
	out, err := exec.Command("ip", "netns", "exec", p.from, "iperf3", "-J", "-c", p.address, "-t", fmt.Sprintf("%.1f", max(1, o.round.Seconds()))).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("iperf3: %w: %s", err, out)
	}
	var report struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err = json.Unmarshal(out, &report); err != nil {
		return 0, 0, err
	}
	out, err = exec.Command("ip", "netns", "exec", p.from, "ping", "-q", "-c", "200", "-i", "0.002", p.address).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("ping: %w: %s", err, out)
	}
	_, times, _ := strings.Cut(string(out), "mdev = ")
	var least, average float64
	if _, err = fmt.Sscanf(times, "%f/%f/", &least, &average); err != nil {
		return 0, 0, fmt.Errorf("ping says %q: %w", out, err)
	}
	return report.End.Received.Rate / 1e9, average * 1000, nil
}
