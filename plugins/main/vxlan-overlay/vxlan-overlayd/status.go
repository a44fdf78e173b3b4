package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dockyard-cni/dockyard/pkg/overlay"
)

// status prints what the daemon keeps, for people; with the argument "json" for
// programs. A further argument is the directory of networks with a stateDir.
func status(args []string) error {
	asJSON := len(args) > 0 && args[0] == "json"
	if asJSON {
		args = args[1:]
	}
	dir := overlay.DefaultStateDir
	if len(args) > 0 {
		dir = args[0]
	}
	states, err := overlay.Status(dir)
	if asJSON {
		return errors.Join(err, json.NewEncoder(os.Stdout).Encode(states))
	}
	return errors.Join(err, table(os.Stdout, states))
}

func table(out io.Writer, states map[string]overlay.State) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(words ...string) { _, _ = fmt.Fprintln(w, strings.Join(words, "\t")) } // Flush fails for all
	line("NETWORK", "HOST", "HOSTS", "BLOCKS", "DRAINING", "PROBLEM")
	for _, name := range slices.Sorted(maps.Keys(states)) {
		s := states[name]
		self, _ := s.Hosts.Find(s.Self)
		problem := s.Problem
		if problem == "" {
			problem = "none"
		}
		for i, text := range strings.Split(problem, "\n") {
			if i == 0 {
				line(name, s.Self.String(), fmt.Sprint(len(s.Hosts)), list(self.Blocks), list(s.Draining), text)
			} else {
				line("", "", "", "", "", text)
			}
		}
	}
	return w.Flush()
}

func list[T fmt.Stringer](all []T) string {
	var texts []string
	for _, v := range all {
		texts = append(texts, v.String())
	}
	if texts == nil {
		return "none"
	}
	return strings.Join(texts, ",")
}
