package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/host"
	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/spec"
)

func (a *app) update() *cobra.Command {
	var mtu int
	var icc, dryRun bool
	var labels, unlabel []string
	c := &cobra.Command{
		Use: "update [OPTIONS] NETWORK", Short: "Change a network while containers run on it", Args: arguments(1, 1),
		Long: `Change a network and the containers that run on it: the kernel's objects, what
runtimes remember of each attachment, and the conflist. Where one step fails, all are
taken back. What is not among the options needs a reconnect of each container.`,
		Example: `  dockyard network update app --mtu 1400 --icc=false
  dockyard network update app --label-add tier=front --dry-run`,
		ValidArgsFunction: a.completeNetworks,
		RunE: func(c *cobra.Command, args []string) error {
			change := spec.Change{Unlabel: unlabel}
			if c.Flags().Changed("mtu") {
				change.MTU = &mtu
			}
			if c.Flags().Changed("icc") {
				change.ICC = &icc
			}
			for _, l := range labels {
				k, v, _ := strings.Cut(l, "=")
				if change.Labels == nil {
					change.Labels = map[string]string{}
				}
				change.Labels[k] = v
			}
			if !change.Any() {
				return errors.New("want something to change: --mtu, --icc, --label-add or --label-rm")
			}
			return a.change(c, func(h *host.Host) error { return a.updateNetwork(c, h, args[0], change, dryRun) })
		},
	}
	f := c.Flags()
	f.IntVar(&mtu, "mtu", 0, "the MTU of the bridge and of the containers' interfaces")
	f.BoolVar(&icc, "icc", true, "whether containers of the network may talk to one another")
	f.StringArrayVar(&labels, "label-add", nil, "add a label")
	f.StringArrayVar(&unlabel, "label-rm", nil, "remove a label")
	f.BoolVar(&dryRun, "dry-run", false, "say what would be done, and change nothing")
	return c
}

func (a *app) updateNetwork(c *cobra.Command, h *host.Host, name string, change spec.Change, dryRun bool) error {
	n, err := h.Network(name)
	if err != nil {
		return err
	}
	done, err := h.Update(c.Context(), n, change, dryRun)
	if err != nil {
		return err
	}
	if dryRun {
		return list(a, done, func(s string) string { return s })
	}
	h.Audit("network %s updated: %s", n.Name, &change)
	_, err = fmt.Fprintln(a.out, n.Name)
	return err
}
