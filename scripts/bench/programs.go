package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// plugins that are compared as programs.
var plugins = []string{"bridge", "host-local", "portmap", "loopback", "firewall", "tuning"}

// processRow counts the processes that one ADD and one DEL of the chain start,
// those of the plugins included, when another container is there already.
func processRow(ctx context.Context, o options, r *report) error {
	ours, iptables, nftables := contenders(o)
	sites, err := newSites("processes", ours, iptables, nftables, ours.dualStack(), iptables.dualStack())
	if err != nil {
		return err
	}
	defer closeSites(sites)
	counts := map[*site]map[string]float64{}
	for _, s := range sites {
		if _, _, err = s.add(ctx, firstPort); err != nil {
			return err
		}
		if counts[s], err = s.countProcesses(ctx, o.cnitool); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for _, verb := range []string{"ADD", "DEL"} {
		label := "processes started by " + verb
		r.compare(label, "iptables, firewall", "", counts[sites[0]][verb], counts[sites[1]][verb])
		r.compare(label, "nftables, no isolation", "", counts[sites[0]][verb], counts[sites[2]][verb])
		r.compare(label+", dual stack", "iptables, firewall", "", counts[sites[3]][verb], counts[sites[4]][verb])
	}
	return nil
}

func (s *site) countProcesses(ctx context.Context, cnitool string) (map[string]float64, error) {
	dir := "/run/bench-conf"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, s.network.Name+".conflist"), s.network.Bytes, 0o600); err != nil {
		return nil, err
	}
	netns, err := newNetNS()
	if err != nil {
		return nil, err
	}
	ports, err := json.Marshal(object{"portMappings": []any{port(8080)}})
	if err != nil {
		return nil, err
	}
	counts := map[string]float64{}
	for _, verb := range []string{"ADD", "DEL"} {
		trace := filepath.Join("/run", s.network.Name+"-"+verb)
		err := s.host.do(func() error {
			cmd := exec.CommandContext(ctx, "strace", "-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", trace,
				cnitool, strings.ToLower(verb), s.network.Name, netns)
			cmd.Env = append(os.Environ(), "NETCONFPATH="+dir, "CNI_PATH="+s.bin, "CAP_ARGS="+string(ports))
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("cnitool %s: %w: %s", verb, err, out)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if counts[verb], err = countExecs(trace); err != nil {
			return nil, err
		}
	}
	return counts, nil
}

// countExecs counts the successful execve lines, without cnitool's own.
func countExecs(trace string) (float64, error) {
	file, err := os.Open(trace)
	if err != nil {
		return 0, err
	}
	defer file.Close() //nolint:errcheck // nothing was written
	n := -1
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "execve") && strings.HasSuffix(lines.Text(), "= 0") {
			n++
		}
	}
	return float64(n), lines.Err()
}

// startRow measures what a plugin takes to start and say its version, beside a
// program that does nothing.
func startRow(ctx context.Context, o options, r *report) error {
	names := []string{o.empty}
	for _, plugin := range plugins {
		for _, dir := range []string{o.ours, o.reference} {
			if _, err := os.Stat(filepath.Join(dir, plugin)); err == nil {
				names = append(names, filepath.Join(dir, plugin))
			}
		}
	}
	samples := map[string][]float64{}
	for i := range 4 * o.iterations {
		for k := range names {
			name := names[(i+k)%len(names)]
			took, err := version(ctx, name)
			if err != nil {
				return fmt.Errorf("%s: VERSION: %w", name, err)
			}
			samples[name] = append(samples[name], took)
		}
	}
	for _, plugin := range plugins {
		ours, reference := median(samples[filepath.Join(o.ours, plugin)]), median(samples[filepath.Join(o.reference, plugin)])
		if ours == 0 {
			continue
		}
		r.compare("start-up, VERSION: "+plugin, plugin, "ms", ours, reference)
		r.flat("start-up, VERSION: our "+plugin+" against an empty Go program", "ms", ours, median(samples[o.empty]))
	}
	return nil
}

func version(ctx context.Context, program string) (float64, error) {
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), "CNI_COMMAND=VERSION")
	cmd.Stdin = strings.NewReader(`{"cniVersion":"1.0.0"}`)
	start := time.Now()
	_, err := cmd.Output()
	return float64(time.Since(start).Microseconds()) / 1000, err
}

func sizeRow(_ context.Context, o options, r *report) error {
	for _, plugin := range plugins {
		ours, err := os.Stat(filepath.Join(o.ours, plugin))
		if err != nil {
			continue // not ours yet
		}
		reference, err := os.Stat(filepath.Join(o.reference, plugin))
		if err != nil {
			return err
		}
		r.compare("binary: "+plugin, plugin, "MB", float64(ours.Size())/1e6, float64(reference.Size())/1e6)
	}
	return nil
}
