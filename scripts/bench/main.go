// Command bench measures Dockyard beside the reference plugins and prints
// Markdown. scripts/bench.sh builds what it needs and runs it in a sandbox; it is
// not meant to be run by itself, as it takes /run and /var/lib/cni for its own.
//
// All contenders of a measurement take turns within one loop, so that whatever
// else the machine does meets them alike. Each works on a "host" of its own, a
// network namespace, so that none is slowed down by the rules of another.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"time"
)

// options are the sizes that everything is measured at.
type options struct {
	ours, reference, flanneld, docker, empty, cnitool string

	containers int           // present on the full host
	leases     int           // present in the full pool
	names      int           // of containers that dns-hosts serves
	mappings   int           // present on the host with many published ports
	iptables   int           // the same for the reference's iptables backend
	iterations int           // of what takes milliseconds
	slow       int           // of what takes a second
	hosts      int           // of each overlay network
	networks   int           // that span them
	watched    time.Duration // how long these are watched in rest
	rounds     int           // of the connection test
	round      time.Duration // how long each of those lasts
	emulated   bool          // slow by five to fifteen times, so that ratios alone count
}

// where labels what was not measured on the machine itself.
func (o options) where() string {
	if o.emulated {
		return " (emulated kernel)"
	}
	return ""
}

var full = options{
	containers: 300, names: 1000, leases: 60000, mappings: 10000, iptables: 300,
	iterations: 30, slow: 7, rounds: 7, round: time.Second,
	hosts: 1000, networks: 10, watched: time.Minute,
}

var quick = options{
	containers: 5, names: 50, leases: 500, mappings: 100, iptables: 50,
	iterations: 3, slow: 3, rounds: 2, round: 200 * time.Millisecond,
	hosts: 50, networks: 2, watched: 2 * time.Second,
}

// row is one measurement: it adds lines to the report.
type row struct {
	name string
	run  func(ctx context.Context, o options, r *report) error
}

var rows = []row{
	{"chain", chainRow},
	{"macvlan", macvlanRow},
	{"ipvlan", ipvlanRow},
	{"host-local", leaseRow},
	{"portmap", portmapRow},
	{"connections", connectionRow},
	{"overlay", overlayRow},
	{"daemon", daemonRow},
	{"scale", scaleRow},
	{"processes", processRow},
	{"start-up", startRow},
	{"names", namesRow},
	{"docker", dockerRow},
	{"size", sizeRow},
}

func main() {
	if err := run(); err != nil {
		slog.Error("bench: " + err.Error())
		os.Exit(1)
	}
}

func run() error {
	var paths options
	flag.StringVar(&paths.ours, "ours", "", "directory of our plugins")
	flag.StringVar(&paths.reference, "reference", "", "directory of the reference plugins")
	flag.StringVar(&paths.flanneld, "flanneld", "", "the flanneld program")
	flag.StringVar(&paths.docker, "docker", "", "directory in which Debian's docker.io is unpacked; without it, its row is left out")
	flag.StringVar(&paths.empty, "empty", "", "a Go program that does nothing")
	flag.StringVar(&paths.cnitool, "cnitool", "", "the cnitool program")
	emulated := flag.Bool("emulated", false, "this machine is emulated: fewer iterations, and it is said of each row")
	isQuick := flag.Bool("quick", false, "few iterations and small numbers, to see whether it works")
	pattern := flag.String("run", "", "only the rows whose name matches this regular expression")
	limit := flag.Duration("limit", 15*time.Minute, "give up after this time")
	flag.Parse()

	wanted, err := regexp.Compile(*pattern)
	if err != nil {
		return err
	}
	if os.Getppid() != 1 {
		return fmt.Errorf("not in a sandbox: run scripts/bench.sh")
	}
	o := full
	if *isQuick {
		o = quick
	} else if *emulated {
		o.iterations = 15
	}
	o.emulated = *emulated
	o.ours, o.reference, o.flanneld, o.docker, o.empty, o.cnitool = paths.ours, paths.reference, paths.flanneld, paths.docker, paths.empty, paths.cnitool

	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	defer sweep()
	return measure(ctx, o, wanted)
}

// measure runs the rows in turn and prints what they found, that of the rows
// before a failure as well.
func measure(ctx context.Context, o options, wanted *regexp.Regexp) error {
	var r report
	defer func() { fmt.Print(r.String()) }()
	for _, row := range rows {
		if !wanted.MatchString(row.name) {
			continue
		}
		start := time.Now()
		if err := row.run(ctx, o, &r); err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		sweep()
		slog.Info(row.name, "took", time.Since(start).Round(time.Second).String())
	}
	return nil
}
