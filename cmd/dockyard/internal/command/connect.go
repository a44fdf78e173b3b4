package command

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/host"
	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/spec"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
)

// attaching is the flags of what attaches a container.
type attaching struct {
	ip, ip6, mac string
	aliases      []string
	ports        []string
	priority     int
}

func (t *attaching) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&t.ip, "ip", "", "IPv4 address, such as 172.20.0.9")
	f.StringVar(&t.ip6, "ip6", "", "IPv6 address")
	f.StringVar(&t.mac, "mac-address", "", "hardware address")
	f.StringArrayVar(&t.aliases, "alias", nil, "a further name on the network")
	f.StringArrayVarP(&t.ports, "publish", "p", nil, "publish a port of the container, as in 8080:80")
	f.IntVar(&t.priority, "gw-priority", 0, "of several networks, the highest has the default route")
}

// options judges the flags: every problem is in the error.
func (t *attaching) options(c *cobra.Command) (o host.Options, err error) {
	var errs []error
	for _, ip := range []struct {
		flag, text string
		is         func(netip.Addr) bool
	}{{"--ip", t.ip, netip.Addr.Is4}, {"--ip6", t.ip6, netip.Addr.Is6}} {
		if ip.text == "" {
			continue
		}
		a, err := netip.ParseAddr(ip.text)
		if err != nil || !ip.is(a) {
			errs = append(errs, fmt.Errorf("invalid address %q of %s", ip.text, ip.flag))
		}
		o.IPs = append(o.IPs, a)
	}
	if t.mac != "" {
		if _, err := net.ParseMAC(t.mac); err != nil {
			errs = append(errs, fmt.Errorf("invalid MAC address: %s", t.mac))
		}
	}
	for _, text := range t.ports {
		p, err := spec.ParsePort(text)
		errs = append(errs, err)
		o.Ports = append(o.Ports, p...)
	}
	if c.Flags().Changed("gw-priority") {
		o.Priority = &t.priority
	}
	o.MAC, o.Aliases = t.mac, t.aliases
	return o, errors.Join(errs...)
}

func (a *app) connect() *cobra.Command {
	var t attaching
	var links []string
	c := &cobra.Command{
		Use: "connect [OPTIONS] NETWORK CONTAINER", Short: "Connect a running container to a network", Args: arguments(2, 2),
		Long: `Connect a container that runs to a further network. The container is one of
containerd (nerdctl, CRI), CRI-O, podman, or a namespace of ip-netns(8), by its name,
ID, the beginning of its ID, or runtime:name.

When the container stops, its network goes with it; when it is started again, its
runtime does not connect it again. "dockyard network prune" takes away what is left.`,
		Example: `  dockyard network connect app web
  dockyard network connect --alias db --ip 172.20.0.9 app nerdctl:web`,
		ValidArgsFunction: a.completeNetworkContainer,
		RunE: func(c *cobra.Command, args []string) error {
			o, err := t.options(c)
			if err != nil {
				return split(err)
			}
			if len(links) > 0 {
				return errors.New("--link has no counterpart: containers of one network know one another by name; give the other container an --alias")
			}
			return a.change(c, func(h *host.Host) error {
				n, err := h.Network(args[0])
				if err != nil {
					return err
				}
				container, err := findContainer(h.Inventory, args[1])
				if err != nil {
					return err
				}
				if err := h.Connect(c.Context(), n, &container, o); err != nil {
					return err
				}
				h.Audit("container %s connected to network %s", container.Title(), n.Name)
				return nil
			})
		},
	}
	t.add(c)
	c.Flags().StringArrayVar(&links, "link", nil, "not there: see --alias")
	c.Flags().StringArray("driver-opt", nil, "taken for docker's sake")
	c.Flags().StringArray("link-local-ip", nil, "taken for docker's sake")
	return c
}

func (a *app) disconnect() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "disconnect [OPTIONS] NETWORK CONTAINER", Short: "Disconnect a container from a network", Args: arguments(2, 2),
		Example: `  dockyard network disconnect app web`, ValidArgsFunction: a.completeNetworkContainer,
		RunE: func(c *cobra.Command, args []string) error {
			return a.change(c, func(h *host.Host) error {
				at, err := attachmentOf(h, args[0], args[1], force)
				if err != nil {
					return err
				}
				if err := h.Detach(c.Context(), at); err != nil {
					return err
				}
				h.Audit("container %s disconnected from network %s", at.Title(), at.Network)
				return nil
			})
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "a container that is gone, too")
	return c
}

// attachmentOf finds what disconnect takes away: with force also of a container that
// does not run any more, by the name or ID that its attachment has.
func attachmentOf(h *host.Host, network, container string, force bool) (*inventory.Attachment, error) {
	n, err := h.Network(network)
	if err != nil {
		return nil, err
	}
	found, err := findContainer(h.Inventory, container)
	if err != nil && !force {
		return nil, err
	}
	for _, a := range h.On(n.Name) {
		if err == nil && a.ContainerID == found.CNIID || force && (a.Name == container || a.ContainerID == container) {
			return a, nil
		}
	}
	return nil, fmt.Errorf("container %s is not connected to network %s", container, n.Name)
}

func (a *app) completeNetworkContainer(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return a.completeNetworks(c, args, word)
	case 1:
		return a.completeContainers(c, args, word)
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}
