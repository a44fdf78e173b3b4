package command

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/host"
	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/view"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
)

func (a *app) rm() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "rm [OPTIONS] NETWORK [NETWORK...]", Aliases: []string{"remove"}, Short: "Remove networks", Args: arguments(1, -1),
		Long: `Remove networks, and all that they have made on this host: bridge, firewall elements,
VXLAN device, leases. A network that running containers are attached to is refused.
Stopped containers cannot be seen: they will not start again without their network.`,
		Example: `  dockyard network rm app
  dockyard network rm -f app`,
		ValidArgsFunction: a.completeNetworks,
		RunE: func(c *cobra.Command, args []string) error {
			return a.change(c, func(h *host.Host) error {
				var failed failures
				for _, name := range args {
					n, err := h.Network(name)
					if missing := (*inventory.NotFoundError)(nil); force && errors.As(err, &missing) {
						continue
					}
					if err == nil {
						err = h.Remove(c.Context(), n, force)
					}
					if err != nil {
						failed = append(failed, err)
						continue
					}
					h.Audit("network %s removed (%s)", n.Name, n.File)
					_, _ = fmt.Fprintln(a.out, name)
				}
				return failed.orNil()
			})
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "disconnect containers first; a network that is not there is no error")
	return c
}

func (a *app) prune() *cobra.Command {
	var force, dryRun bool
	var filters []string
	c := &cobra.Command{
		Use: "prune [OPTIONS]", Short: "Remove networks that nobody uses, and what is left of containers", Args: arguments(0, 0),
		Long: `Remove the networks that were created here and that no running container is attached
to, and what is left of attachments that no runtime took away: leases, names, ports.`,
		Example: `  dockyard network prune --dry-run
  dockyard network prune -f --filter until=24h`,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := parseFilters(filters)
			if err != nil {
				return err
			}
			return a.change(c, func(h *host.Host) error { return a.pruneNetworks(c, h, f, force, dryRun) })
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be removed, and change nothing")
	c.Flags().StringArrayVar(&filters, "filter", nil, "only networks that match, such as until=24h or label=x")
	return c
}

func (a *app) pruneNetworks(c *cobra.Command, h *host.Host, f view.Filters, force, dryRun bool) error {
	allowed, err := view.Prunable(h.Inventory, f)
	if err != nil {
		return err
	}
	networks, orphans := h.Unused(func(n *inventory.Network) bool { return allowed[n.Name] })
	if !dryRun && !force && !a.agrees("This will remove all networks not used by at least one running container, and what is left of containers.") {
		return nil
	}
	var failed failures
	for _, group := range []struct {
		head string
		all  []host.Pruned
	}{{"Deleted Networks:", networks}, {"Deleted Leftovers:", orphans}} {
		if len(group.all) == 0 {
			continue
		}
		if dryRun {
			group.head = strings.Replace(group.head, "Deleted", "Would delete", 1)
		}
		_, _ = fmt.Fprintln(a.out, group.head)
		for _, p := range group.all {
			if !dryRun {
				if err := p.Remove(c.Context()); err != nil {
					failed = append(failed, fmt.Errorf("%s: %w", p.What, err))
					continue
				}
				h.Audit("pruned %s", p.What)
			}
			_, _ = fmt.Fprintln(a.out, p.What)
		}
		_, _ = fmt.Fprintln(a.out)
	}
	return failed.orNil()
}

// agrees asks on the terminal; who has none does not agree.
func (a *app) agrees(warning string) bool {
	_, _ = fmt.Fprintf(a.out, "WARNING! %s\nAre you sure you want to continue? [y/N] ", warning)
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	return strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "y")
}
