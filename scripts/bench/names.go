package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
)

// What dns-hosts has to keep to.
const (
	limitVisible = 50.0 // ms
	limitMemory  = 60.0 // MB
	limitADD     = 2.0  // ms
	resolver     = "127.0.0.11"
)

// A nameLab is a host with many containers that dns-hosts gives names, and its
// daemon. Their networks are left out: what is measured is the one plugin.
type nameLab struct {
	*site
	o      options
	netns  []string
	daemon *exec.Cmd
}

// namesRow measures dns-hosts: its plugin, with few and many containers; its
// daemon beside dnsmasq.
func namesRow(ctx context.Context, o options, r *report) error {
	sites, err := newSites("names", contender{name: "ours", bin: o.ours, ours: true})
	if err != nil {
		return err
	}
	defer closeSites(sites)
	l := &nameLab{site: sites[0], o: o}
	if err := l.startDaemon(ctx); err != nil {
		return err
	}
	defer func() { _ = l.daemon.Process.Kill(); _ = l.daemon.Wait() }()
	for _, step := range []func(context.Context, *report) error{l.cost, l.visible, l.queries, l.memory} {
		if err := step(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func (l *nameLab) startDaemon(ctx context.Context) error {
	l.daemon = exec.CommandContext(ctx, filepath.Join(l.bin, "dns-hosts"), "daemon")
	l.daemon.Stderr = os.Stderr
	return l.host.do(l.daemon.Start)
}

// attach calls the plugin for container i, which has a namespace of its own.
func (l *nameLab) attach(ctx context.Context, verb string, i int, netns string) error {
	return l.run(ctx, filepath.Join(l.bin, "dns-hosts"), verb, i, netns)
}

func (l *nameLab) run(ctx context.Context, program, verb string, i int, netns string) error {
	return l.start(ctx, program, verb, fmt.Sprintf("%012x", i), netns, object{
		"cniVersion": "1.0.0", "name": "names", "type": "dns-hosts", "containerName": fmt.Sprintf("n%d", i),
		// dnsmasq's own address on this network: what is not ours is asked there.
		"dns": object{"nameservers": []string{"127.0.0.1:5353"}},
		"prevResult": object{"cniVersion": "1.0.0",
			"interfaces": []any{object{"name": containerLink, "sandbox": netns}},
			"ips":        []any{object{"interface": 0, "address": addressOf(i)}}},
	})
}

const containerLink = "eth0"

func addressOf(i int) string { return fmt.Sprintf("10.99.%d.%d/16", i/250, i%250+1) }

// container makes the namespace of a container with its interface and address, by
// which the daemon knows it. Any link will do; this kind needs no partner.
func container(i int) (string, error) {
	path, err := newNetNS()
	if err != nil {
		return "", err
	}
	return path, inNetNS(path, func() error {
		link := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
		link.Name = containerLink
		addr, err := netlink.ParseAddr(addressOf(i))
		if err == nil {
			err = netlink.LinkAdd(link)
		}
		if err == nil {
			err = netlink.AddrAdd(link, addr)
		}
		return err
	})
}

// cost measures ADD and DEL without others and among many, and in turns with them the
// start of a program that does nothing, by the same library with the same input.
func (l *nameLab) cost(ctx context.Context, r *report) error {
	round := func(kind string) error {
		for range l.o.iterations {
			spare, err := container(l.o.names) // as each container has
			if err != nil {
				return err
			}
			for _, verb := range []string{"ADD", "DEL"} {
				if err := l.timed(verb+kind, func() error { return l.attach(ctx, verb, l.o.names, spare) }); err != nil {
					return err
				}
			}
			if err := l.timed("empty"+kind, func() error { return l.run(ctx, l.o.empty, "DEL", l.o.names, spare) }); err != nil {
				return err
			}
		}
		return nil
	}
	if err := round(" alone"); err != nil {
		return err
	}
	for i := range l.o.names {
		netns, err := container(i)
		if err == nil {
			l.netns = append(l.netns, netns)
			err = l.host.do(func() error { return l.attach(ctx, "ADD", i, netns) })
		}
		if err != nil {
			return err
		}
	}
	if err := round(" among many"); err != nil {
		return err
	}
	for _, verb := range []string{"ADD", "DEL"} {
		r.flat(fmt.Sprintf("dns-hosts: %s, %d containers against none", verb, l.o.names), "ms", l.median(verb+" among many"), l.median(verb+" alone"))
	}
	r.compare(fmt.Sprintf("dns-hosts: ADD, %d containers, without the start of a program", l.o.names), "the limit", "ms",
		l.median("ADD among many")-l.median("empty among many"), limitADD)
	return nil
}

// visible measures from the end of ADD until another container gets the answer.
func (l *nameLab) visible(ctx context.Context, r *report) error {
	for i := range l.o.iterations {
		spare, err := container(l.o.names + 1 + i)
		if err != nil {
			return err
		}
		if err := l.host.do(func() error { return l.attach(ctx, "ADD", l.o.names+1+i, spare) }); err != nil {
			return err
		}
		start := time.Now()
		for _, from := range []string{l.netns[0], l.netns[len(l.netns)-1]} {
			if err := inNetNS(from, func() error { return until(fmt.Sprintf("n%d.names.", l.o.names+1+i)) }); err != nil {
				return err
			}
		}
		l.samples["visible"] = append(l.samples["visible"], float64(time.Since(start).Microseconds())/1000)
		if err := l.host.do(func() error { return l.attach(ctx, "DEL", l.o.names+1+i, spare) }); err != nil {
			return err
		}
	}
	r.compare(fmt.Sprintf("dns-hosts: a new name is known to %d containers", l.o.names), "the limit", "ms", l.median("visible"), limitVisible)
	return nil
}

// until asks until the name is known.
func until(name string) error {
	c := &dns.Client{Timeout: time.Second}
	q := new(dns.Msg).SetQuestion(name, dns.TypeA)
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if m, _, err := c.Exchange(q, net.JoinHostPort(resolver, "53")); err == nil && len(m.Answer) > 0 {
			return nil
		}
	}
	return fmt.Errorf("%s: not known after 5 s", name)
}

// queries asks the daemon and a dnsmasq for the same names in turns, from inside a
// container: names of containers, and names that dnsmasq has and we get of it.
func (l *nameLab) queries(ctx context.Context, r *report) error {
	own, foreign, hosts := "", "", ""
	for i := range l.o.names {
		addr := fmt.Sprintf("10.99.%d.%d", i/250, i%250+1)
		own += fmt.Sprintf("n%d A\n", i)
		foreign += fmt.Sprintf("f%d.example A\n", i)
		hosts += fmt.Sprintf("%s n%d f%d.example\n", addr, i, i)
	}
	dir, err := os.MkdirTemp("/run", "names")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"own": own, "foreign": foreign, "hosts": hosts} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return inNetNS(l.netns[0], func() error {
		dnsmasq := exec.CommandContext(ctx, "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--addn-hosts="+filepath.Join(dir, "hosts"), "--local-ttl=3600",
			"--listen-address=127.0.0.1", "--bind-interfaces", "--port=5353", "--user=root", "--pid-file="+filepath.Join(dir, "pid"), "--conf-file=/dev/null", "--cache-size=10000")
		if err := dnsmasq.Start(); err != nil {
			return err
		}
		defer func() { _ = dnsmasq.Process.Kill(); _ = dnsmasq.Wait() }()
		return l.race(ctx, r, dir)
	})
}

func (l *nameLab) race(ctx context.Context, r *report, dir string) error {
	samples := map[string][]float64{}
	for range l.o.rounds {
		for _, c := range []struct{ what, server, port, file string }{
			{"ours", resolver, "53", "own"}, {"dnsmasq", "127.0.0.1", "5353", "own"}, {"forwarded", resolver, "53", "foreign"},
		} {
			rate, err := dnsperf(ctx, c.server, c.port, filepath.Join(dir, c.file), l.o.round)
			if err != nil {
				return err
			}
			samples[c.what] = append(samples[c.what], rate)
		}
	}
	slog.Info("dnsperf", "samples", fmt.Sprint(samples))
	r.compareRate(fmt.Sprintf("dns-hosts: answers for %d names", l.o.names), "dnsmasq", "/s", median(samples["ours"]), median(samples["dnsmasq"]))
	r.compareRate("dns-hosts: cached answers of other servers", "half of dnsmasq", "/s", median(samples["forwarded"]), median(samples["dnsmasq"])/2)
	return nil
}

var perSecond = regexp.MustCompile(`Queries per second:\s+([0-9.]+)`)

func dnsperf(ctx context.Context, server, port, file string, round time.Duration) (float64, error) {
	seconds := strconv.Itoa(max(1, int(round/time.Second)))
	out, err := exec.CommandContext(ctx, "dnsperf", "-s", server, "-p", port, "-d", file, "-l", seconds, "-c", "4").CombinedOutput()
	m := perSecond.FindSubmatch(out)
	if err != nil || m == nil || !strings.Contains(string(out), "NOERROR") {
		return 0, fmt.Errorf("dnsperf %s: %w: %s", server, err, out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// memory looks at the daemon with all containers, and after the last has gone.
func (l *nameLab) memory(ctx context.Context, r *report) error {
	rss, err := residentMB(l.daemon.Process.Pid)
	if err != nil {
		return err
	}
	r.compare(fmt.Sprintf("dns-hosts: memory of the daemon, %d containers", l.o.names), "the limit", "MB", rss, limitMemory)
	fds := filepath.Join("/proc", strconv.Itoa(l.daemon.Process.Pid), "fd")
	many, err := os.ReadDir(fds)
	if err != nil {
		return err
	}
	for i, netns := range l.netns {
		if err := l.host.do(func() error { return l.attach(ctx, "DEL", i, netns) }); err != nil {
			return err
		}
	}
	const none = 16
	for deadline := time.Now().Add(10 * time.Second); ; {
		left, err := os.ReadDir(fds)
		if err == nil && len(left) > none && time.Now().After(deadline) {
			err = errors.New("descriptors are left")
		}
		if err != nil {
			return fmt.Errorf("%d of %d: %w", len(left), len(many), err)
		}
		if len(left) <= none {
			r.compare("dns-hosts: descriptors of the daemon after all containers have gone", fmt.Sprintf("with %d", l.o.names), "", float64(len(left)), float64(len(many)))
			return nil
		}
		time.Sleep(50 * time.Millisecond) //nolint:forbidigo // the daemon closes them in its own time
	}
}
