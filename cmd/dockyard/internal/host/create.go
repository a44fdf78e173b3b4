package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/j-keck/arping"

	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/spec"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
)

// podRuntimes are there where a runtime takes the first file of the directory as the
// network of all pods.
var podRuntimes = []string{"/var/lib/kubelet", "/etc/crio", "/run/crio"}

// Plan returns what create would write, and where. Every problem is in the error.
func (h *Host) Plan(r spec.Request, first bool) (path string, conflist []byte, err error) {
	for _, n := range h.Networks {
		if n.Name == r.Name && n.Name != "" {
			return "", nil, fmt.Errorf("network with name %s already exists (%s)", r.Name, n.File)
		}
	}
	conflist, err = spec.Build(r, Subnets{h, r.Name, r.Driver})
	if err != nil {
		return "", nil, err
	}
	prefix := "zz-dockyard-"
	if first {
		prefix = "00-dockyard-"
	}
	path = filepath.Join(h.ConfDirs[0], prefix+r.Name+".conflist")
	n := inventory.ParseNetwork(path, conflist)
	return path, conflist, errors.Join(h.overlaps(&n, len(r.Subnets) > 0), h.linkFree(&n, &r), h.defaults(path, first))
}

// overlaps refuses subnets that the host would have an address in twice. That of
// macvlan and ipvlan may be the LAN's own.
func (h *Host) overlaps(n *inventory.Network, asked bool) error {
	if !asked || n.Driver == "macvlan" || n.Driver == "ipvlan" {
		return nil
	}
	used, err := h.used()
	if err != nil {
		return err
	}
	for _, s := range n.Subnets {
		if by := used.Overlaps(s.Subnet); by != "" {
			return fmt.Errorf("invalid pool request: Pool overlaps with other one on this address space: %s with %s", s.Subnet, by)
		}
	}
	return nil
}

// linkFree refuses a bridge that is another network's, and a parent that is not there.
func (h *Host) linkFree(n *inventory.Network, r *spec.Request) error {
	if by := h.Taken(n.Bridge); n.Bridge != "" && strings.HasPrefix(by, "network ") {
		return fmt.Errorf("bridge %s is that of %s already; two networks on one bridge share a policy. Choose another", n.Bridge, by)
	} else if by != "" && by != "a link of type bridge" && n.Bridge != "" {
		return fmt.Errorf("bridge %s: there is %s of that name already; choose another", n.Bridge, by)
	}
	if n.Master != "" && h.Taken(n.Master) == "" {
		return fmt.Errorf("parent %s: the host has no such link (option parent of network %s)", n.Master, r.Name)
	}
	if other := h.VNIHolder(n.VNI); other != nil {
		return fmt.Errorf("VNI %d is that of network %s already; give -o vni=NUMBER, the same on all hosts", n.VNI, other.Name)
	}
	return nil
}

// defaults refuses to make the network of all pods by accident.
func (h *Host) defaults(path string, wanted bool) error {
	if wanted || !h.wouldBeFirst(path) {
		return nil
	}
	for _, p := range podRuntimes {
		if _, err := os.Stat(filepath.Join(h.Root, p)); err == nil {
			return fmt.Errorf("%s would be the first file of %s, so the network of all pods (%s is there); "+
				"--default asks for that, or write the pods' own network first", filepath.Base(path), filepath.Dir(path), p)
		}
	}
	return nil
}

func (h *Host) wouldBeFirst(path string) bool {
	for _, n := range h.Networks {
		if filepath.Dir(n.File) == filepath.Dir(path) && n.File < path {
			return false
		}
	}
	return true
}

// Create writes the conflist of a new network, if the plugins agree with it.
func (h *Host) Create(ctx context.Context, r spec.Request, first bool) (string, error) {
	path, conflist, err := h.Plan(r, first)
	if err != nil {
		return "", err
	}
	list, err := libcni.NetworkConfFromBytes(conflist)
	if err != nil {
		return "", err
	}
	if err = h.CNI().GetStatusNetworkList(ctx, list); err != nil && !notYet(r.Driver, err) {
		return "", fmt.Errorf("the plugins refuse the network, so nothing was written: %w", err)
	}
	h.warnTaken(path, conflist, &r)
	err = write(path, conflist)
	if errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("network with name %s already exists (%s)", r.Name, path)
	}
	return path, err
}

// notYet tells the error of an overlay's network that waits for its daemon, which
// needs the file first.
func notYet(driver string, err error) bool {
	return driver == "overlay" && strings.Contains(err.Error(), "daemon")
}

// warnTaken asks the LAN whether somebody has the address that the first container
// would get.
func (h *Host) warnTaken(path string, conflist []byte, r *spec.Request) {
	n := inventory.ParseNetwork(path, conflist)
	if n.Driver != "macvlan" && n.Driver != "ipvlan" || n.Master == "" {
		return
	}
	for _, s := range n.Subnets {
		first := s.RangeStart
		if !first.IsValid() {
			first = s.Subnet.Addr().Next()
			if first == s.Gateway {
				first = first.Next()
			}
		}
		if mac := holder(first, n.Master); mac != nil {
			h.Warn(fmt.Sprintf("%s, which the first container of %s would get, is in use on %s by %s; give --ip-range", first, r.Name, n.Master, mac))
		}
	}
}

// patience is how long a machine of the LAN may take to answer.
const patience = 300 * time.Millisecond

// holder asks the LAN of a link who has an address; nil if nobody answers, or none
// can be asked.
func holder(a netip.Addr, link string) net.HardwareAddr {
	if !a.Is4() {
		return nil
	}
	arping.SetTimeout(patience)
	mac, _, err := arping.PingOverIfaceByName(a.AsSlice(), link)
	if err != nil {
		return nil
	}
	return mac
}
