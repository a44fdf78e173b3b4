package bridgenet

import (
	"net/netip"
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
)

// TestModes: what the gateway modes of the two families mean for the host's address
// and for masquerading.
func TestModes(t *testing.T) {
	yes := true
	for name, c := range map[string]struct {
		Config
		gateway, masq [2]bool // IPv4, IPv6
	}{
		"reference plugin":       {Config{}, [2]bool{}, [2]bool{}},
		"isGateway":              {Config{Layout: Layout{Gateway: true}}, [2]bool{true, true}, [2]bool{}},
		"ipMasq":                 {Config{IPMasq: &yes}, [2]bool{}, [2]bool{true, true}},
		"ipMasq, internal":       {Config{IPMasq: &yes, Internal: true}, [2]bool{}, [2]bool{}},
		"nat":                    {Config{GatewayMode: nft.NAT}, [2]bool{true, true}, [2]bool{true, true}},
		"nat, internal":          {Config{GatewayMode: nft.NAT, Internal: true}, [2]bool{true, true}, [2]bool{}},
		"nat and routed":         {Config{GatewayMode: nft.NAT, GatewayModeIPv6: nft.Routed}, [2]bool{true, true}, [2]bool{true, false}},
		"routed, ipMasq":         {Config{GatewayMode: nft.Routed, IPMasq: &yes}, [2]bool{true, true}, [2]bool{}},
		"isolated, isGateway":    {Config{GatewayMode: nft.Isolated, Layout: Layout{Gateway: true}}, [2]bool{}, [2]bool{}},
		"isolated in IPv4 alone": {Config{GatewayModeIPv4: nft.Isolated, GatewayMode: nft.NAT, Internal: true}, [2]bool{false, true}, [2]bool{}},
	} {
		for i, is6 := range []bool{false, true} {
			if got := c.HasGateway(is6); got != c.gateway[i] {
				t.Errorf("%s, IPv6 %v: gateway %v", name, is6, got)
			}
			if got := c.masquerade(is6); got != c.masq[i] {
				t.Errorf("%s, IPv6 %v: masqueraded %v", name, is6, got)
			}
		}
	}
}

// TestCompleteGateways: the first address of a network is the gateway that the IPAM
// plugin left out; on an isolated network there is none.
func TestCompleteGateways(t *testing.T) {
	ips := []cni.IP{
		{Prefix: netip.MustParsePrefix("10.1.0.7/24")},
		{Prefix: netip.MustParsePrefix("10.2.0.7/24"), Gateway: netip.MustParseAddr("10.2.0.254")},
		{Prefix: netip.MustParsePrefix("fd00::7/64")},
	}
	for mode, want := range map[nft.Mode][]string{
		nft.NAT:      {"10.1.0.1", "10.2.0.254", "fd00::1"},
		nft.Open:     {"invalid IP", "10.2.0.254", "invalid IP"},
		nft.Isolated: {"invalid IP", "invalid IP", "invalid IP"},
	} {
		a := &cni.Attachment{IPs: append([]cni.IP(nil), ips...)}
		(&Config{GatewayMode: mode}).CompleteGateways(a)
		for i, ip := range a.IPs {
			if ip.Gateway.String() != want[i] {
				t.Errorf("mode %q: %s has gateway %s, want %s", mode, ip.Prefix, ip.Gateway, want[i])
			}
		}
	}
}
