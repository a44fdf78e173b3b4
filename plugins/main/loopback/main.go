// Command loopback sets the loopback link of a container up. See README.md.
package main

import (
	"context"
	"net/netip"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/attach"
	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/conf"
	"github.com/dockyard-cni/dockyard/pkg/link"
	"github.com/dockyard-cni/dockyard/pkg/state"
)

// name is the link's, whatever CNI_IFNAME says: runtimes pass "lo", or by
// habit the name of another interface.
const name = "lo"

func main() {
	cni.Main("loopback", cni.Planned{New: func() cni.Config { return &config{} }, Scopes: scopes})
}

type config struct{ cni.Base }

// Validate implements cni.Config.
func (*config) Validate(*cni.Request, *conf.Report) {}

// Plan implements cni.Config.
func (*config) Plan(a *cni.Attachment) state.Plan {
	var p state.Plan
	p.Ensure(link.Up{NS: a.NetNS, Name: name})
	return p
}

// scopes: every namespace has the link, so nothing is owned.
func scopes(*cni.Request) []state.Scope { return nil }

// Links implements cni.Linker.
func (*config) Links(_ context.Context, a *cni.Attachment) ([]*current.Interface, error) {
	lo, err := attach.Interface(a.NetNS, name)
	a.IPs = []cni.IP{{Prefix: netip.MustParsePrefix("127.0.0.1/8")}, {Prefix: netip.MustParsePrefix("::1/128")}}
	return []*current.Interface{lo}, err
}
