package sysctl_test

import (
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/sysctl"
)

func TestContract(t *testing.T) { testnet.Contract(t, cases) }

func cases() []testnet.Case {
	return []testnet.Case{
		{Resource: sysctl.Set(netns.Host(), "net/ipv4/conf/lo/arp_notify", "1", "net/ipv6/conf/lo/accept_dad", "0"), Role: engine.Ensure, Stays: true, Before: "arp_notify",
			Breaks: map[string]string{
				"sysctl -qw net.ipv4.conf.lo.arp_notify=0": "arp_notify",
				"sysctl -qw net.ipv6.conf.lo.accept_dad=1": "accept_dad",
			}},
		{Resource: sysctl.Forwarding{}, Role: engine.Ensure, Stays: true, Before: "ip_forward",
			Breaks: map[string]string{"sysctl -qw net.ipv4.ip_forward=0": "ip_forward"}},
		{Resource: sysctl.Forwarding{IPv6: true}, Role: engine.Ensure, Stays: true, Before: "forwarding",
			Breaks: map[string]string{"sysctl -qw net.ipv6.conf.all.forwarding=0": "forwarding"}},
	}
}
