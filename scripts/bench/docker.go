package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// dockerRow sets our overlay beside Docker's. It needs more of a machine than the
// other rows: scripts/bench.sh -docker.
func dockerRow(ctx context.Context, o options, r *report) error {
	if o.docker == "" {
		slog.Info("docker: left out; scripts/bench.sh -docker runs it")
		return nil
	}
	return overlayTraffic(ctx, o, r, flannelPair, dockerPair)
}

// A dockerHost is one with a daemon of its own.
type dockerHost struct {
	bin, home string
	env       []string
}

// run runs a client.
func (d dockerHost) run(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(d.bin, "usr/bin/docker"), append([]string{"-H", "unix://" + d.home + "/sock"}, args...)...)
	cmd.Env = d.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

// script runs clients up to the first that fails, and returns what the last says.
func (d dockerHost) script(lines ...string) (out string, err error) {
	for _, line := range lines {
		if out, err = d.run(strings.Fields(line)...); err != nil {
			return out, err
		}
	}
	return out, nil
}

// dockerPair makes two hosts with a dockerd each, a swarm of them, and a container
// on each that an attachable overlay network joins.
func dockerPair(ctx context.Context, o options) (p *pair, stop func(), err error) {
	p = &pair{name: "Docker's overlay (20.10)", from: "docker1", to: "docker2"}
	start, stop := starter(ctx)
	on, err := twoHosts()
	if err != nil {
		return p, stop, err
	}
	var hosts []dockerHost
	for i, do := range on {
		d := dockerHost{bin: o.docker, home: fmt.Sprintf("/run/docker%d", i+1), env: append(os.Environ(),
			"PATH="+o.docker+"/usr/sbin:"+o.docker+"/usr/bin:"+os.Getenv("PATH"), "LD_LIBRARY_PATH="+o.docker+"/lib/x86_64-linux-gnu")}
		hosts = append(hosts, d)
		if err = do(func() error {
			return start("env", append(d.env[len(d.env)-2:], filepath.Join(o.docker, "usr/sbin/dockerd"), "--data-root", d.home+"/data", "--exec-root", d.home+"/exec",
				"-p", d.home+"/pid", "-H", "unix://"+d.home+"/sock", "--oom-score-adjust", "0", "--default-ulimit", "nofile=1024:4096", "-s", "vfs")...)
		}); err != nil {
			return p, stop, err
		}
	}
	if err = dockerSwarm(hosts); err != nil {
		return p, stop, err
	}
	for i, name := range []string{p.from, p.to} {
		var pid string
		pid, err = hosts[i].script("run -d --network overlay --name "+name+" box /bin/busybox sleep 1000", "inspect -f {{.State.Pid}} "+name)
		if err == nil {
			err = commands("ip netns attach " + name + " " + pid)
		}
		if err != nil {
			return p, stop, err
		}
	}
	p.address, err = hosts[1].run("inspect", "-f", "{{.NetworkSettings.Networks.overlay.IPAddress}}", p.to)
	return p, stop, err
}

// dockerSwarm joins two daemons, with an image and a network.
func dockerSwarm(hosts []dockerHost) error {
	box, err := exec.LookPath("busybox") // the static one
	if err != nil {
		return err
	}
	if err = shell("mkdir -p /run/box/bin; cp %s /run/box/bin/busybox; tar -C /run/box -cf /run/box.tar bin", box); err != nil {
		return err
	}
	for _, d := range hosts {
		if err = await(func() error { _, notYet := d.run("info"); return notYet }); err != nil {
			return err
		}
		if _, err = d.run("import", "/run/box.tar", "box"); err != nil {
			return err
		}
	}
	token, err := hosts[0].script("swarm init --advertise-addr 192.0.2.1", "swarm join-token -q worker")
	if err != nil {
		return err
	}
	if _, err = hosts[1].run("swarm", "join", "--token", token, "--advertise-addr", "192.0.2.2", "192.0.2.1:2377"); err != nil {
		return err
	}
	_, err = hosts[0].run("network", "create", "-d", "overlay", "--attachable", "overlay")
	return err
}
