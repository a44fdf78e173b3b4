package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// flannelPair makes a container on each of two hosts, which flannel joins by its
// VXLAN. What is by flannel's CNI plugin, a bridge with a pair, is made by hand.
func flannelPair(ctx context.Context, o options) (p *pair, stop func(), err error) {
	p = &pair{name: "flannel, its VXLAN, with bridges, without firewall"}
	start, stop := starter(ctx)
	on, err := twoHosts()
	if err != nil {
		return p, stop, err
	}
	const etcd = "http://192.0.2.1:2379"
	if err = on[0](func() error {
		return errors.Join(start("etcd", "--data-dir", "/run/flannel-etcd", "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
			"--listen-peer-urls", "http://192.0.2.1:2380"), flannelConfig(etcd))
	}); err != nil {
		return p, stop, err
	}
	for i, do := range on {
		self := fmt.Sprintf("192.0.2.%d", i+1)
		path, err := newNetNS()
		if err != nil {
			return p, stop, err
		}
		*[]*string{&p.from, &p.to}[i] = filepath.Base(path)
		if err = do(func() error {
			env := "/run/flannel-" + self + ".env"
			startErr := start(o.flanneld, "-etcd-endpoints", etcd, "-iface", self, "-subnet-file", env)
			gateway, subnetErr := flannelSubnet(env)
			if subnetErr != nil {
				return errors.Join(startErr, subnetErr)
			}
			p.address = strings.TrimSuffix(gateway, ".1/24") + ".2"
			return flannelContainer(p.address, gateway, filepath.Base(path))
		}); err != nil {
			return p, stop, err
		}
	}
	return p, stop, nil
}

// starter starts programs, and stops them all.
func starter(ctx context.Context) (start func(name string, args ...string) error, stop func()) {
	var running []*exec.Cmd
	start = func(name string, args ...string) error {
		cmd := exec.CommandContext(ctx, name, args...)
		err := cmd.Start()
		if err == nil {
			running = append(running, cmd)
		}
		return err
	}
	return start, func() {
		for _, cmd := range running {
			_, _ = cmd.Process.Kill(), cmd.Wait()
		}
	}
}

// flannelConfig says to etcd what network there is, by its gateway for JSON, as the
// threads of a client would be on another host.
func flannelConfig(etcd string) error {
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	body := fmt.Sprintf(`{"key": %q, "value": %q}`, encode("/coreos.com/network/config"), encode(`{"Network": "10.92.0.0/16", "Backend": {"Type": "vxlan"}}`))
	return await(func() error {
		out, err := exec.Command("curl", "-sSf", "-d", body, etcd+"/v3/kv/put").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("curl: %w: %s", err, out)
		}
		return err
	})
}

// flannelSubnet is the address with which flannel wants the bridge.
func flannelSubnet(file string) (gateway string, err error) {
	return gateway, await(func() error {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		_, rest, _ := strings.Cut(string(b), "FLANNEL_SUBNET=")
		if gateway, _, _ = strings.Cut(rest, "\n"); !strings.HasSuffix(gateway, ".1/24") {
			return fmt.Errorf("flannel says %q", b)
		}
		return nil
	})
}

func flannelContainer(address, gateway, container string) error {
	return commands(
		"ip link add br92 mtu 1450 type bridge",
		"ip addr add "+gateway+" dev br92",
		"ip link set br92 up",
		"ip link add v92 mtu 1450 type veth peer name eth0 mtu 1450 netns "+container,
		"ip link set v92 master br92 up",
		fmt.Sprintf("ip -n %s addr add %s/24 dev eth0", container, address),
		fmt.Sprintf("ip -n %s link set eth0 up", container),
		fmt.Sprintf("ip -n %s route add default via %s", container, strings.TrimSuffix(gateway, "/24")),
	)
}
