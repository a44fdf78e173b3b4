package command

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/host"
	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/spec"
)

// creation is the flags of create.
type creation struct {
	spec.Request
	labels, options, aux, ipamOptions []string
	ipv4                              bool
	print, first                      bool
	configOnly, ingress               bool
	configFrom, scope                 string
}

func (a *app) create() *cobra.Command {
	var o creation
	c := &cobra.Command{
		Use: "create [OPTIONS] NETWORK", Short: "Create a network", Args: arguments(1, 1),
		Long: `Create a network: write the conflist by which every CNI runtime of this host can
attach containers to it. Without --subnet a free one is chosen.`,
		Example: `  dockyard network create app
  dockyard network create --internal --subnet 172.20.0.0/24 backend
  dockyard network create -d macvlan -o parent=eth0 --subnet 192.168.1.0/24 lan
  dockyard network create -d overlay -o etcd=http://10.0.0.5:2379 mesh
  dockyard network create --print app`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			r, err := o.request(args[0])
			if err != nil {
				return err
			}
			return a.createNetwork(c, r, o)
		},
	}
	o.flags(c)
	return c
}

func (o *creation) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&o.Driver, "driver", "d", "bridge", "bridge, macvlan, ipvlan or overlay")
	f.StringArrayVarP(&o.options, "opt", "o", nil, "a driver's option: docker's name, or a key of the plugin")
	f.StringArrayVar(&o.labels, "label", nil, "a label of the network")
	f.BoolVar(&o.Internal, "internal", false, "no way out or in")
	f.BoolVar(&o.ipv4, "ipv4", true, "IPv4 addresses")
	f.BoolVar(&o.IPv6, "ipv6", false, "IPv6 addresses, too")
	f.StringSliceVar(&o.Subnets, "subnet", nil, "subnet, such as 172.20.0.0/24")
	f.StringSliceVar(&o.IPRanges, "ip-range", nil, "the part of the subnet that containers get addresses from")
	f.StringSliceVar(&o.Gateways, "gateway", nil, "the host's address, or the LAN's router")
	f.StringArrayVar(&o.aux, "aux-address", nil, "an address that no container gets, as in router=192.168.1.5")
	f.StringVar(&o.IPAM, "ipam-driver", "default", "default, dhcp or none")
	f.StringArrayVar(&o.ipamOptions, "ipam-opt", nil, "there are none")
	f.StringSliceVar(&o.DNS, "dns", nil, "servers for names that are no container's")
	f.BoolVar(&o.print, "print", false, "show the conflist, and change nothing")
	f.BoolVar(&o.first, "default", false, "make it the network of all pods")
	f.Bool("attachable", true, "taken for docker's sake: all networks are")
	f.StringVar(&o.scope, "scope", "", "taken for docker's sake: the driver decides")
	f.BoolVar(&o.configOnly, "config-only", false, "not there")
	f.StringVar(&o.configFrom, "config-from", "", "not there")
	f.BoolVar(&o.ingress, "ingress", false, "not there")
}

func (o *creation) request(name string) (spec.Request, error) {
	r := o.Request
	r.Name, r.NoIPv4 = name, !o.ipv4
	r.Metadata.Created = time.Now().UTC().Truncate(time.Second)
	var errs []error
	for _, pairs := range []struct {
		from []string
		to   *map[string]string
	}{{o.labels, &r.Labels}, {o.options, &r.Options}, {o.aux, &r.Aux}} {
		for _, p := range pairs.from {
			k, v, valued := strings.Cut(p, "=")
			if *pairs.to == nil {
				*pairs.to = map[string]string{}
			}
			if !valued && pairs.to == &r.Options {
				v = "true"
			}
			(*pairs.to)[k] = v
		}
	}
	if o.configOnly || o.configFrom != "" || o.ingress || len(o.ipamOptions) > 0 {
		errs = append(errs, errors.New("--config-only, --config-from, --ingress and --ipam-opt are swarm's, and not there; a conflist can be copied"))
	}
	if r.IPAM == "dhcp" && r.Driver == "bridge" {
		r.Options = withDefault(r.Options, "gatewayMode", "nat-unprotected")
	}
	return r, errors.Join(errs...)
}

func withDefault(m map[string]string, k, v string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	if _, ok := m[k]; !ok {
		m[k] = v
	}
	return m
}

func (a *app) createNetwork(c *cobra.Command, r spec.Request, o creation) error {
	if o.print {
		cfg, err := a.config()
		if err != nil {
			return err
		}
		inv, err := a.inventory(c.Context())
		if err != nil {
			return err
		}
		h := &host.Host{Config: cfg, Inventory: inv, Warn: a.warn}
		_, text, err := h.Plan(r, o.first)
		if err != nil {
			return split(err)
		}
		_, err = a.out.Write(text)
		return err
	}
	return a.change(c, func(h *host.Host) error {
		path, err := h.Create(c.Context(), r, o.first)
		if err != nil {
			return split(err)
		}
		h.Audit("network %s created (%s)", r.Name, path)
		_, err = fmt.Fprintln(a.out, path)
		return err
	})
}

// split makes a line of each problem.
func split(err error) error {
	var many interface{ Unwrap() []error }
	if !errors.As(err, &many) || fmt.Sprint(many) != err.Error() {
		return err
	}
	var all failures
	for _, e := range many.Unwrap() {
		if nested := (failures)(nil); errors.As(split(e), &nested) {
			all = append(all, nested...)
		} else {
			all = append(all, e)
		}
	}
	return all
}

func (a *app) warn(text string) { _, _ = fmt.Fprintln(a.err, "Warning: "+text) }

// change does something while no other command changes networks.
func (a *app) change(c *cobra.Command, f func(*host.Host) error) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	h, release, err := host.Lock(c.Context(), cfg, a.warn)
	if err != nil {
		return err
	}
	defer release()
	return f(h)
}
