// Command vxlan-overlayd is what "vxlan-overlay daemon" and "vxlan-overlay status"
// run. See ../README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/dockyard-cni/dockyard/pkg/daemon"
	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/overlay"
	"github.com/dockyard-cni/dockyard/pkg/overlay/etcdstore"
	"github.com/dockyard-cni/dockyard/pkg/overlay/names"
)

func main() {
	switch args := os.Args[1:]; {
	case len(args) > 0 && args[0] == "status":
		exit(status(args[1:]), "")
	case len(args) > 1 && args[0] == "daemon":
		keep(args[1:])
	case len(args) > 0 && args[0] != "daemon": // of the plugin of an earlier version
		keep(args)
	default:
		fmt.Fprintln(os.Stderr, "usage: vxlan-overlay daemon CONFLIST... | status [json] [DIRECTORY]")
		os.Exit(2)
	}
}

func keep(files []string) {
	debug.SetGCPercent(50) // what a burst needs for a moment shall not stay
	exit(daemon.Run("", func(ctx context.Context, log *slog.Logger) error { return run(ctx, files, log) }), "cannot start")
}

// exit ends the process, with a line in the form of the log or in words.
func exit(err error, message string) {
	switch {
	case err == nil:
		return
	case message != "":
		slog.New(slog.NewTextHandler(os.Stderr, nil)).Error(message, "error", err)
	default:
		fmt.Fprintln(os.Stderr, "vxlan-overlay:", err)
	}
	os.Exit(1)
}

// run keeps all networks of the files; one that ends ends all.
func run(ctx context.Context, files []string, log *slog.Logger) error {
	configs, err := overlay.Load(files)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var ended []error
	dial := dialer()
	for _, c := range configs {
		keepers, err := start(ctx, c, dial, log)
		if err != nil {
			return fmt.Errorf("network %s: %w", c.Name, err)
		}
		for _, run := range keepers {
			wg.Go(func() {
				if err := run(); err != nil {
					mu.Lock()
					ended = append(ended, fmt.Errorf("network %s: %w", c.Name, err))
					mu.Unlock()
					cancel()
				}
			})
		}
	}
	wg.Wait()
	return errors.Join(ended...)
}

// dialer dials each etcd once, for all networks that reach it in one way.
func dialer() func(*overlay.Etcd) (*etcdstore.Client, error) {
	clients := map[string]*etcdstore.Client{}
	return func(e *overlay.Etcd) (client *etcdstore.Client, err error) {
		a := etcdstore.Access{
			Endpoints: e.Endpoints, CA: e.CA, Cert: e.Cert, Key: e.Key, Username: e.Username, PasswordFile: e.PasswordFile,
		}
		key := fmt.Sprintf("%q", a)
		if client = clients[key]; client == nil {
			if client, err = etcdstore.Dial(a); err == nil {
				clients[key] = client
			}
		}
		return client, err
	}
}

// start returns what keeps one network.
func start(ctx context.Context, c *overlay.Config, dial func(*overlay.Etcd) (*etcdstore.Client, error), log *slog.Logger) ([]func() error, error) {
	d := overlay.NewDaemon(c, log)
	if err := d.Start(); err != nil {
		return nil, err
	}
	if c.Etcd == nil {
		f, err := overlay.NewFile(ctx, c, log)
		return []func() error{func() error { return d.Run(ctx, f) }}, err
	}
	client, err := dial(c.Etcd)
	if err != nil {
		return nil, err
	}
	s := etcdstore.New(ctx, client, etcdstore.Options{
		Prefix: c.Etcd.Prefix, Name: c.Name, Self: d.Self(), ID: machine(), Log: log,
		Network: etcdstore.Network{Subnets: c.Subnets, VNI: c.VNI, Port: c.Port},
		TTL:     c.Etcd.TTL(), Reclaim: c.Etcd.Reclaim(),
	})
	e := names.Exchange{Network: c.Name, Subnets: c.Subnets, Zone: zone.Default(), Log: log}
	return []func() error{
		func() error { return d.Run(ctx, s) },
		func() error { return e.Run(ctx, s) },
	}, nil
}

// machine names this machine as long as it is installed (machine-id(5)), and of
// hosts that are namespaces of one machine each by its host name.
func machine() string {
	id, err := os.ReadFile("/etc/machine-id")
	name, _ := os.Hostname()
	if err != nil {
		return name
	}
	return strings.TrimSpace(string(id)) + " " + name
}
