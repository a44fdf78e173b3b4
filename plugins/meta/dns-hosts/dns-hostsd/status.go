package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/daemon/control"
	"github.com/dockyard-cni/dockyard/pkg/dns/resolver"
	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
)

const patience = 5 * time.Second

// status prints what the daemon does, for people; with an argument "json" or
// "metrics" for programs.
func status(args []string) error {
	request := "state"
	if len(args) > 0 && args[0] == "metrics" {
		request = "metrics"
	}
	answer, err := control.Ask(zone.Default().Socket(), request, patience)
	if err != nil {
		return fmt.Errorf("the daemon does not answer; is it running? %w", err)
	}
	if len(args) > 0 {
		_, err = os.Stdout.Write(answer)
		return err
	}
	var s resolver.State
	if err := json.Unmarshal(answer, &s); err != nil {
		return err
	}
	return table(os.Stdout, s)
}

func table(out io.Writer, s resolver.State) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) } // Flush fails for all
	line("CONTAINER\tNETWORKS\tNAMES\tADDRESSES\tQUERIES\tREFUSED")
	for _, c := range s.Containers {
		line("%s\t%s\t%s\t%s\t%d\t%d", zone.ShortID(c.ID), strings.Join(c.Networks, ","), strings.Join(c.Names, ","),
			strings.Join(c.Addresses, ","), c.Queries, c.Refused)
	}
	line("\nSERVER\tOF\tTIME\tFAILURES\tASKED\t")
	for _, u := range s.Upstreams {
		of := u.Container
		if of == "" {
			of = "host"
		}
		line("%s\t%s\t%s\t%d\t%d\t", u.Address, of, u.RTT, u.Failures, u.Asked)
	}
	line("\ncache: %d answers, %d bytes, %d hits, %d misses\nwithout an answer: %d; waiting: %d",
		s.Cache.Entries, s.Cache.Bytes, s.Cache.Hits, s.Cache.Misses, s.Failures, s.Waiting)
	return w.Flush()
}
