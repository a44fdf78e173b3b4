package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
)

// site is a contender at work: on a host of its own, with what is present there.
type site struct {
	contender
	host    *host
	cni     *libcni.CNIConfig
	network *libcni.NetworkConfigList
	present int
	samples map[string][]float64
}

func newSite(c contender, network string) (*site, error) {
	h, err := newHost()
	if err != nil {
		return nil, err
	}
	list, err := c.chain(network)
	if err != nil {
		return nil, err
	}
	return &site{
		contender: c,
		host:      h,
		cni:       libcni.NewCNIConfigWithCacheDir([]string{c.bin}, "/run/bench-cache", nil),
		network:   list,
		samples:   map[string][]float64{},
	}, nil
}

// newSites puts each contender on a host of its own, with networks named after row.
func newSites(row string, all ...contender) ([]*site, error) {
	var sites []*site
	for i, c := range all {
		s, err := newSite(c, fmt.Sprintf("%s%d", row, i))
		if err != nil {
			return nil, err
		}
		sites = append(sites, s)
	}
	return sites, nil
}

func closeSites(sites []*site) {
	for _, s := range sites {
		s.host.close()
	}
}

// attachment is what runtimes pass: a container with ports to publish.
func attachment(id, netns string, ports []any) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID:    id,
		NetNS:          netns,
		IfName:         "eth0",
		CapabilityArgs: object{"portMappings": ports},
	}
}

func port(number int) object {
	return object{"hostPort": number, "containerPort": 80, "protocol": "tcp"}
}

// timed runs f on the host and keeps how many milliseconds it took.
func (s *site) timed(what string, f func() error) error {
	return s.host.do(func() error {
		start := time.Now()
		err := f()
		took := time.Since(start)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", s.name, what, err)
		}
		s.samples[what] = append(s.samples[what], float64(took.Microseconds())/1000)
		return nil
	})
}

func (s *site) median(what string) float64 { return median(s.samples[what]) }

// add attaches a new container and leaves it there.
func (s *site) add(ctx context.Context, port1 int) (types.Result, string, error) {
	netns, err := newNetNS()
	if err != nil {
		return nil, "", err
	}
	var result types.Result
	err = s.host.do(func() (err error) {
		result, err = s.cni.AddNetworkList(ctx, s.network, attachment(filepath.Base(netns), netns, []any{port(port1)}))
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s: ADD: %w", s.name, err)
	}
	return result, netns, err
}

// call runs one plugin of the contender by itself.
func (s *site) call(ctx context.Context, verb, id, netns string, conf object) error {
	return s.start(ctx, filepath.Join(s.bin, conf["type"].(string)), verb, id, netns, conf)
}

// start runs a program as runtimes run plugins.
func (s *site) start(ctx context.Context, program, verb, id, netns string, conf object) error {
	data, err := json.Marshal(conf)
	if err != nil {
		return err
	}
	args := &invoke.Args{Command: verb, ContainerID: id, NetNS: netns, IfName: "eth0", Path: s.bin}
	if verb == "DEL" {
		return invoke.ExecPluginWithoutResult(ctx, program, data, args, nil)
	}
	_, err = invoke.ExecPluginWithResult(ctx, program, data, args, nil)
	return err
}

// alternate lets the sites take turns, in another order each time: what one leaves
// for the kernel to finish must not always fall to the same successor.
func alternate(ctx context.Context, iterations int, sites []*site, f func(s *site, i int) error) error {
	order := rand.New(rand.NewPCG(1, 1)) // the same orders in every run
	for i := range iterations {
		for _, k := range order.Perm(len(sites)) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f(sites[k], i); err != nil {
				return err
			}
		}
	}
	return nil
}

// prepare runs f for all sites, two at a time: hosts don't share what f changes.
func prepare(sites []*site, f func(s *site) error) error {
	errs := make(chan error, len(sites))
	turn := make(chan struct{}, 2)
	var all sync.WaitGroup
	for _, s := range sites {
		all.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			if err := f(s); err != nil {
				errs <- fmt.Errorf("%s: %w", s.name, err)
			}
		})
	}
	all.Wait()
	close(errs)
	return <-errs
}
