package command

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/format"
	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/view"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
)

// listing is the flags of all lists.
type listing struct {
	format  string
	json    bool
	quiet   bool
	noTrunc bool
	filters []string
}

func (l *listing) add(c *cobra.Command, filtered bool) {
	f := c.Flags()
	f.StringVar(&l.format, "format", "", `"table", "table TEMPLATE", "json", or a Go template`)
	f.BoolVar(&l.json, "json", false, "the same as --format json")
	if filtered {
		f.StringArrayVarP(&l.filters, "filter", "f", nil, "only what matches, such as driver=bridge")
		f.BoolVarP(&l.quiet, "quiet", "q", false, "only IDs")
		f.BoolVar(&l.noTrunc, "no-trunc", false, "whole IDs")
	}
}

func show[Row any](a *app, l *listing, list format.List[Row], rows []Row) error {
	if l.json {
		l.format = "json"
	}
	return list.Print(a.out, l.format, rows)
}

func (a *app) ls() *cobra.Command {
	var l listing
	c := &cobra.Command{
		Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List networks", Args: arguments(0, 0),
		Example: `  dockyard network ls
  dockyard network ls --filter driver=macvlan --format '{{.Name}} {{.Subnet}}'`,
		RunE: func(c *cobra.Command, _ []string) error {
			filters, err := parseFilters(l.filters)
			if err != nil {
				return err
			}
			inv, err := a.inventory(c.Context())
			if err != nil {
				return err
			}
			rows, err := view.Networks(inv, filters, l.noTrunc)
			if err != nil {
				return err
			}
			if l.quiet {
				return list(a, rows, func(r view.NetworkRow) string { return r.ID })
			}
			return show(a, &l, view.NetworkList(), rows)
		},
	}
	l.add(c, true)
	return c
}

func list[Row any](a *app, rows []Row, text func(Row) string) error {
	for _, r := range rows {
		if _, err := fmt.Fprintln(a.out, text(r)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) inspect() *cobra.Command {
	var form string
	c := &cobra.Command{
		Use: "inspect [OPTIONS] NETWORK [NETWORK...]", Short: "Show all that is known of networks", Args: arguments(1, -1),
		ValidArgsFunction: a.completeNetworks,
		Example: `  dockyard network inspect app
  dockyard network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{"\n"}}{{end}}' app`,
		RunE: func(c *cobra.Command, args []string) error {
			if form != "" && form != "json" {
				if _, err := format.Parse(form); err != nil {
					return err
				}
			}
			inv, err := a.inventory(c.Context())
			if err != nil {
				return err
			}
			var all []view.Inspected
			var failed failures
			for _, name := range args {
				n, err := inv.Network(name)
				if err != nil {
					failed = append(failed, err)
					continue
				}
				all = append(all, view.Inspect(inv, n))
			}
			if err := view.PrintInspected(a.out, form, all); err != nil {
				failed = append(failed, err)
			}
			return failed.orNil()
		},
	}
	c.Flags().StringVarP(&form, "format", "f", "", `"json", or a Go template`)
	c.Flags().BoolP("verbose", "v", false, "taken for docker's sake: all is shown anyway")
	return c
}

func (a *app) ps() *cobra.Command {
	var l listing
	c := &cobra.Command{
		Use: "ps [OPTIONS]", Short: "List what is attached to networks", Args: arguments(0, 0),
		Example: `  dockyard ps
  dockyard ps --filter network=app --filter status=up --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			filters, err := parseFilters(l.filters)
			if err != nil {
				return err
			}
			inv, err := a.inventory(c.Context())
			if err != nil {
				return err
			}
			rows, err := view.Attachments(inv, filters, l.noTrunc, time.Now())
			if err != nil {
				return err
			}
			if l.quiet {
				return list(a, rows, func(r view.AttachmentRow) string { return r.Container })
			}
			return show(a, &l, view.AttachmentList(), rows)
		},
	}
	l.add(c, true)
	return c
}

func (a *app) port() *cobra.Command {
	var l listing
	c := &cobra.Command{
		Use: "port [OPTIONS] [CONTAINER]", Short: "List published ports and who holds them", Args: arguments(0, 1),
		ValidArgsFunction: a.completeContainers,
		Example: `  dockyard port
  dockyard port web --json`,
		RunE: func(c *cobra.Command, args []string) error {
			inv, err := a.inventory(c.Context())
			if err != nil {
				return err
			}
			var of *inventory.Container
			if len(args) == 1 {
				found, err := findContainer(inv, args[0])
				if err != nil {
					return err
				}
				of = &found
			}
			return show(a, &l, view.PortList(), view.Ports(inv, of))
		},
	}
	l.add(c, false)
	return c
}

func (a *app) names() *cobra.Command {
	var l listing
	c := &cobra.Command{
		Use: "names [OPTIONS] [NETWORK]", Short: "List names, and who knows them", Args: arguments(0, 1),
		ValidArgsFunction: a.completeNetworks,
		Example: `  dockyard names
  dockyard names app`,
		RunE: func(c *cobra.Command, args []string) error {
			inv, err := a.inventory(c.Context())
			if err != nil {
				return err
			}
			network := ""
			if len(args) == 1 {
				n, err := inv.Network(args[0])
				if err != nil {
					return err
				}
				network = n.Name
			}
			return show(a, &l, view.NameList(), view.Names(inv, network))
		},
	}
	l.add(c, false)
	return c
}

// findContainer finds a container that runs, in words that say what can be done.
func findContainer(inv *inventory.Inventory, text string) (inventory.Container, error) {
	c, err := inventory.FindContainer(inv.Containers, text)
	if errors.Is(err, inventory.ErrNoContainer) {
		return c, fmt.Errorf("no such container: %s; only containers that run can be seen, by name, ID or the beginning of it", text)
	}
	return c, err
}

func (a *app) completeNetworks(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	inv, err := a.inventory(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, n := range inv.Networks {
		if n.Name != "" {
			out = append(out, n.Name+"\t"+n.Driver)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeContainers(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	inv, err := a.inventory(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, c := range inv.Containers {
		out = append(out, c.Title()+"\t"+c.Runtime)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func parseFilters(args []string) (view.Filters, error) {
	f, err := view.ParseFilters(args)
	if err != nil {
		return nil, usageError{err}
	}
	return f, nil
}
