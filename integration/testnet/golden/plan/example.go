package plan

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/integration/testnet/golden"
	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// Examples compares the part that a plugin has in each file of conf-examples
// with integration/testnet/golden/testdata/examples, where a reader sees the whole of
// what an example does: a section for each plugin of the list, kept by the test
// of that plugin.
func Examples(t *testing.T, plugin string, p cni.Planned) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(testnet.Root(), "conf-examples", "*.conflist"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no examples (%v)", err)
	}
	used := false
	for _, path := range paths {
		e := readExample(t, path)
		for i, c := range e.list.Plugins {
			if c.Network.Type != plugin {
				continue
			}
			used = true
			t.Run(e.name, func(t *testing.T) {
				plan, report, err := p.Preview(Args(e.conf(t, i), e.env()...), e.answer(t))
				if err != nil || len(report.Warnings()) > 0 {
					t.Fatal(err, report.Warnings())
				}
				golden.Open(t, e.golden()).Want(t, plugin, cmp.Or(plan.String(), "nothing\n"))
			})
		}
	}
	if !used {
		t.Error("no example has the plugin ", plugin)
	}
}

// An example is a conflist with the capability arguments that are beside it.
type example struct {
	name string
	list *libcni.NetworkConfigList
	caps map[string]any
}

func readExample(t *testing.T, path string) example {
	t.Helper()
	list, err := libcni.ConfListFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	e := example{name: strings.TrimSuffix(filepath.Base(path), ".conflist"), list: list}
	args, err := os.ReadFile(strings.TrimSuffix(path, ".conflist") + ".args.json")
	if err == nil {
		err = json.Unmarshal(args, &e.caps)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return e
}

func (e example) golden() string {
	return filepath.Join(testnet.Root(), "integration/testnet/golden/testdata/examples", e.name+".txtar")
}

func (e example) env() []string {
	if e.list.Plugins[0].Network.Type == "loopback" {
		return []string{"CNI_IFNAME=lo"}
	}
	return nil
}

// conf is the request configuration of the i-th plugin, as a runtime derives it
// (CNI specification, "Deriving request configuration from plugin
// configuration").
func (e example) conf(t *testing.T, i int) string {
	t.Helper()
	c := e.object(t, i)
	runtime := maps.Clone(e.caps)
	maps.DeleteFunc(runtime, func(name string, _ any) bool { return !e.list.Plugins[i].Network.Capabilities[name] })
	c["name"], c["cniVersion"] = e.list.Name, e.list.CNIVersion
	if len(runtime) > 0 {
		c["runtimeConfig"] = runtime
	}
	delete(c, "capabilities")
	if i > 0 {
		prev, err := e.result(t).GetAsVersion(e.list.CNIVersion)
		if err != nil {
			t.Fatal(err)
		}
		c["prevResult"] = prev
	}
	out, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func (e example) object(t *testing.T, i int) (c map[string]any) {
	t.Helper()
	if err := json.Unmarshal(e.list.Plugins[i].Bytes, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// An addressRange is the keys of a range of host-local that matter here.
type addressRange struct {
	Subnet              netip.Prefix
	RangeStart, Gateway netip.Addr
}

// first returns the gateway's address and the first that is given.
func (r addressRange) first() (gateway, addr netip.Addr) {
	gateway, addr = r.Gateway, r.RangeStart
	if !gateway.IsValid() {
		gateway = r.Subnet.Addr().Next()
	}
	if !addr.IsValid() {
		addr = gateway.Next()
	}
	return gateway, addr
}

// answer is what host-local gives the first container: of each range the first
// address that is not the gateway's, unless another is asked for.
func (e example) answer(t *testing.T) *current.Result {
	t.Helper()
	var c struct {
		Subnets, Blocks []netip.Prefix
		Mode            string
		Peers           []struct{ Blocks []netip.Prefix }
		IPAM            struct {
			Ranges [][]addressRange
			Routes []*types.Route
		}
	}
	if err := json.Unmarshal(e.list.Plugins[0].Bytes, &c); err != nil {
		t.Fatal(err)
	}
	res := &current.Result{CNIVersion: current.ImplementedSpecVersion, Routes: c.IPAM.Routes}
	blocks := c.Blocks // of an overlay's host, without ranges
	for _, p := range c.Peers {
		blocks = append(blocks, p.Blocks...)
		break
	}
	var sets []addressRange
	for _, b := range blocks {
		sets = append(sets, addressRange{Subnet: b})
	}
	for _, set := range c.IPAM.Ranges {
		sets = append(sets, set[0])
	}
	for i, set := range sets {
		gateway, addr := set.first()
		if c.Mode == "l2" && c.Subnets != nil { // the network is one link on all hosts
			set.Subnet = c.Subnets[i]
		}
		if ips, ok := e.caps["ips"].([]any); ok {
			addr = netip.MustParseAddr(ips[0].(string))
		}
		res.IPs = append(res.IPs, &current.IPConfig{
			Address: net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(set.Subnet.Bits(), addr.BitLen())},
			Gateway: gateway.AsSlice(),
		})
	}
	return res
}

// result is what the first plugin returns, bridge or ptp, which has none.
func (e example) result(t *testing.T) *current.Result {
	t.Helper()
	args := Args("")
	res := e.answer(t)
	if bridge, ok := e.object(t, 0)["bridge"].(string); ok {
		res.Interfaces = append(res.Interfaces, &current.Interface{Name: bridge})
	}
	mark := owner.Key{Network: e.list.Name, ContainerID: args.ContainerID, IfName: args.IfName}.Mark()
	res.Interfaces = append(res.Interfaces,
		&current.Interface{Name: mark.HostLink()}, &current.Interface{Name: args.IfName, Sandbox: args.Netns})
	for _, ip := range res.IPs {
		ip.Interface = current.Int(len(res.Interfaces) - 1)
	}
	return res
}
