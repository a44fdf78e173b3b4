package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// Options are what a person asks for one attachment.
type Options struct {
	IPs      []netip.Addr
	MAC      string
	Aliases  []string
	Ports    []inventory.AskedPort
	Priority *int
	Args     map[string]string // of CNI_ARGS
}

// Connect attaches a container that runs to a network, as its runtime would: with its
// container ID and cache.
func (h *Host) Connect(ctx context.Context, n *inventory.Network, c *inventory.Container, o Options) error {
	have := h.Of(c)
	for _, a := range have {
		if a.Network == n.Name {
			return fmt.Errorf("endpoint with name %s already exists in network %s", c.Title(), n.Name)
		}
	}
	if c.Runtime == "podman" {
		return h.podman(ctx, "connect", o.podman(), n, c)
	}
	ns, err := enter(c)
	if err != nil {
		return err
	}
	defer ns.Close()
	ifName, err := h.freeName(ns, c)
	if err != nil {
		return err
	}
	if err = errors.Join(h.addressFree(n, o.IPs), h.portsFree(c, o.Ports)); err != nil {
		return err
	}
	list, err := listOf(n, o.Priority)
	if err != nil {
		return err
	}
	rt, err := o.runtime(n, list, c, have)
	if err != nil {
		return err
	}
	rt.ContainerID, rt.NetNS, rt.IfName = c.CNIID, c.NetNS, ifName
	if _, err := h.CNI().AddNetworkList(ctx, list, rt); err != nil {
		return errors.Join(err, h.CNI().DelNetworkList(context.WithoutCancel(ctx), list, rt))
	}
	return nil
}

// enter opens the namespace of a container, and refuses that of the host.
func enter(c *inventory.Container) (*netns.NS, error) {
	ns := netns.At(c.NetNS)
	if err := ns.Open(); err != nil {
		return nil, fmt.Errorf("container %s: its namespace %s cannot be entered: %w", c.Title(), c.NetNS, err)
	}
	if same, sameErr := ns.Same(netns.Host()); sameErr != nil || same {
		ns.Close()
		return nil, errors.Join(sameErr, fmt.Errorf("container %s: container cannot be connected to networks, as it has the host's", c.Title()))
	}
	return ns, nil
}

// freeName is the next ethN: runtimes count from 0, so it is taken from the top of
// what is there.
func (h *Host) freeName(ns *netns.NS, c *inventory.Container) (string, error) {
	names, err := link.Names(ns)
	if err != nil {
		return "", err
	}
	for _, a := range h.Attachments {
		if a.ContainerID == c.CNIID {
			names = append(names, a.IfName)
		}
	}
	next := 0
	for _, n := range names {
		if digits, ok := strings.CutPrefix(n, "eth"); ok {
			if i, err := strconv.Atoi(digits); err == nil && i >= next {
				next = i + 1
			}
		}
	}
	return "eth" + strconv.Itoa(next), nil
}

// addressFree asks whether an address that was chosen is somebody's.
func (h *Host) addressFree(n *inventory.Network, ips []netip.Addr) error {
	for _, ip := range ips {
		if a := h.AddressHolder(n.Name, ip); a != nil && a.State != inventory.Gone {
			return fmt.Errorf("Address already in use: %s is %s's", ip, a.Title()) //nolint:staticcheck // docker's words
		}
		if n.Driver != "macvlan" && n.Driver != "ipvlan" {
			continue
		}
		if mac := holder(ip, n.Master); n.Master != "" && mac != nil {
			return fmt.Errorf("Address already in use: %s is in use on %s by %s", ip, n.Master, mac) //nolint:staticcheck // docker's words
		}
	}
	return nil
}

// portsFree says, in docker's words, who has a port already. The kernel decides; this
// only tells more of what is known before.
func (h *Host) portsFree(c *inventory.Container, ports []inventory.AskedPort) error {
	var errs []error
	for _, p := range ports {
		a := h.PortHolder(p.Protocol, uint16(p.HostPort))
		if a == nil || a.ContainerID == c.CNIID || a.State == inventory.Gone || p.HostIP != "" {
			continue
		}
		//nolint:staticcheck // docker's words
		errs = append(errs, fmt.Errorf("Bind for 0.0.0.0:%d failed: port is already allocated: %s on network %s holds it", p.HostPort, a.Title(), a.Network))
	}
	return errors.Join(errs...)
}

// listOf is a network's conflist, with what one attachment wants otherwise.
func listOf(n *inventory.Network, priority *int) (*libcni.NetworkConfigList, error) {
	b := n.Raw
	if priority != nil {
		var top map[string]any
		if err := json.Unmarshal(b, &top); err != nil {
			return nil, err
		}
		plugins, _ := top["plugins"].([]any)
		if first, ok := plugins[0].(map[string]any); ok {
			first["gatewayPriority"] = *priority
		}
		var err error
		if b, err = json.Marshal(top); err != nil {
			return nil, err
		}
	}
	list, err := libcni.NetworkConfFromBytes(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.File, err)
	}
	return list, nil
}

// runtime is what plugins are told of the container: what its runtime has told them
// for its first network, and what was asked for this one. What no plugin declares as
// a capability goes into CNI_ARGS, where there is a word for it.
func (o *Options) runtime(n *inventory.Network, list *libcni.NetworkConfigList, c *inventory.Container, have []*inventory.Attachment) (*libcni.RuntimeConf, error) {
	args, caps := argsOf(c, have), map[string]any{}
	o.addresses(list, args, caps)
	for _, need := range []struct {
		capability, flag string
		value            any
		wanted           bool
	}{
		{"aliases", "--alias", o.Aliases, len(o.Aliases) > 0},
		{"portMappings", "-p", o.Ports, len(o.Ports) > 0},
	} {
		if !need.wanted {
			continue
		}
		if !declares(list, need.capability) {
			return nil, fmt.Errorf("%s: no plugin of network %s has the capability %q (%s)", need.flag, n.Name, need.capability, n.File)
		}
		caps[need.capability] = need.value
	}
	rt := &libcni.RuntimeConf{CapabilityArgs: caps}
	for k, v := range args {
		rt.Args = append(rt.Args, [2]string{k, v})
	}
	slices.SortFunc(rt.Args, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return rt, nil
}

// argsOf are the CNI_ARGS that say who the container is.
func argsOf(c *inventory.Container, have []*inventory.Attachment) map[string]string {
	args := map[string]string{"IgnoreUnknown": "1"}
	for _, a := range have {
		if a.Cached == nil {
			continue
		}
		for k, v := range a.Cached.Args {
			if strings.HasPrefix(k, "K8S_POD_") {
				args[k] = v
			}
		}
	}
	if _, err := zone.ParseName(c.Name); err == nil && c.Name != "" && args["K8S_POD_NAME"] == "" && c.Runtime != "nerdctl" {
		args["K8S_POD_NAME"] = c.Name
	}
	return args
}

// addresses asks for the addresses that were chosen.
func (o *Options) addresses(list *libcni.NetworkConfigList, args map[string]string, caps map[string]any) {
	var ips []string
	for _, ip := range o.IPs {
		ips = append(ips, ip.String())
	}
	switch {
	case ips == nil:
	case declares(list, "ips"):
		caps["ips"] = ips
	default:
		args["IP"] = strings.Join(ips, ",")
	}
	switch {
	case o.MAC == "":
	case declares(list, "mac"):
		caps["mac"] = o.MAC
	default:
		args["MAC"] = o.MAC
	}
}

func declares(list *libcni.NetworkConfigList, capability string) bool {
	return slices.ContainsFunc(list.Plugins, func(p *libcni.PluginConfig) bool { return p.Network.Capabilities[capability] })
}

// Detach takes away an attachment with the list that made it. One that libcni does
// not know is taken away with the network's file.
func (h *Host) Detach(ctx context.Context, a *inventory.Attachment) error {
	if a.Runtime == "podman" && a.State == inventory.Up {
		n, err := h.Network(a.Network)
		if err != nil {
			return err
		}
		return h.podman(ctx, "disconnect", nil, n, a.Container)
	}
	rt := &libcni.RuntimeConf{ContainerID: a.ContainerID, NetNS: a.NetNS, IfName: a.IfName}
	config := h.configOf(a.Network)
	if a.Cached != nil {
		config = a.Cached.Config
		cached, found, err := h.CNI().GetNetworkListCachedConfig(&libcni.NetworkConfigList{Name: a.Network}, rt)
		if err == nil && cached != nil && found != nil {
			config, rt = cached, found
		}
	}
	if config == nil {
		return fmt.Errorf("neither libcni's cache nor a conflist says how %s was attached; DEL with its old conflist removes it", a.Mark)
	}
	if gone := netns.At(a.NetNS); a.NetNS == "" || gone.Gone() {
		rt.NetNS = ""
	}
	list, err := libcni.NetworkConfFromBytes(config)
	if err != nil {
		return err
	}
	return h.CNI().DelNetworkList(ctx, list, rt)
}

func (h *Host) configOf(network string) []byte {
	n, err := h.Network(network)
	if err != nil {
		return nil
	}
	return n.Raw
}

// podman has podman do it: its own database would not know otherwise.
func (h *Host) podman(ctx context.Context, verb string, flags []string, n *inventory.Network, c *inventory.Container) error {
	args := slices.Concat([]string{"network", verb}, flags, []string{n.Name, c.ID})
	out, err := exec.CommandContext(ctx, "podman", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("podman %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (o *Options) podman() (flags []string) {
	for _, ip := range o.IPs {
		name := "--ip"
		if ip.Is6() {
			name = "--ip6"
		}
		flags = append(flags, name, ip.String())
	}
	if o.MAC != "" {
		flags = append(flags, "--mac-address", o.MAC)
	}
	for _, a := range o.Aliases {
		flags = append(flags, "--alias", a)
	}
	return flags
}
