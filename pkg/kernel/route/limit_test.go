package route

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// On a link without carrier the kernel does not begin duplicate address detection.
func TestD7NoDetection(t *testing.T) {
	h := testnet.New(t)
	h.Run("sh", "-c", "ip link add v0 type veth peer name v1; ip link set v0 up")
	a := Addr{NS: netns.Host(), Link: "v0", Prefix: netip.MustParsePrefix("fd00::1/64"), DAD: Wait}
	nl, err := a.NS.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	l, err := nl.LinkByName("v0")
	if err != nil {
		t.Fatal(err)
	}
	err = a.addAndWait(t.Context(), nl, l, &netlink.Addr{IPNet: ipNet(a.Prefix), Flags: unix.IFA_F_TENTATIVE}, 10*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "link v0: duplicate address detection of fd00::1 is not over after 10ms") {
		t.Errorf("%v, want an error that names the link", err)
	}
}
