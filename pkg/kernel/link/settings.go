package link

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// Settings are what can be changed of a link that is there. What is empty or nil
// is left alone. As JSON they have the keys of the reference tuning plugin.
type Settings struct {
	MAC      string `json:"mac,omitempty"`
	MTU      int    `json:"mtu,omitempty"`
	TxQLen   *int   `json:"txQLen,omitempty"` // packets
	Promisc  *bool  `json:"promisc,omitempty"`
	AllMulti *bool  `json:"allmulti,omitempty"`
}

// Any reports whether there is anything to set.
func (s Settings) Any() bool { return s != Settings{} }

// String is the words of ip-link(8), each with a space before it.
func (s Settings) String() string {
	var words strings.Builder
	if s.MAC != "" {
		words.WriteString(" address " + s.MAC)
	}
	if s.MTU != 0 {
		_, _ = fmt.Fprintf(&words, " mtu %d", s.MTU)
	}
	if s.TxQLen != nil {
		_, _ = fmt.Fprintf(&words, " txqueuelen %d", *s.TxQLen)
	}
	if s.Promisc != nil {
		words.WriteString(" promisc " + OnOff(*s.Promisc))
	}
	if s.AllMulti != nil {
		words.WriteString(" allmulticast " + OnOff(*s.AllMulti))
	}
	return words.String()
}

// Found returns what a link has now of all that s sets, and the link's index,
// which is 0 where there is no such link.
func (s Settings) Found(ns *netns.NS, name string) (found Settings, index int, err error) {
	_, l, err := Find(ns, name)
	if err != nil || l == nil {
		return found, 0, err
	}
	a := l.Attrs()
	if s.MAC != "" {
		found.MAC = a.HardwareAddr.String()
	}
	if s.MTU != 0 {
		found.MTU = a.MTU
	}
	if s.TxQLen != nil {
		found.TxQLen = &a.TxQLen
	}
	// The flags are those that somebody set; the kernel counts users such as
	// tcpdump apart.
	flag := func(wanted *bool, bit uint32) *bool {
		is := a.RawFlags&bit != 0
		if wanted == nil {
			return nil
		}
		return &is
	}
	found.Promisc, found.AllMulti = flag(s.Promisc, unix.IFF_PROMISC), flag(s.AllMulti, unix.IFF_ALLMULTI)
	return found, a.Index, nil
}

// Differs compares what s sets with what was found.
func (s Settings) Differs(found Settings) engine.Diff {
	return engine.First(
		engine.Differ("address", found.MAC, s.MAC),
		engine.Differ("mtu", found.MTU, s.MTU),
		engine.Differ("txqueuelen", orUnset(found.TxQLen), orUnset(s.TxQLen)),
		engine.Differ("promisc", orUnset(found.Promisc), orUnset(s.Promisc)),
		engine.Differ("allmulticast", orUnset(found.AllMulti), orUnset(s.AllMulti)))
}

func orUnset[T any](v *T) string {
	if v == nil {
		return "unset"
	}
	return fmt.Sprint(*v)
}

// Except returns s without what other has of the same value.
func (s Settings) Except(other Settings) Settings {
	if s.MAC == other.MAC {
		s.MAC = ""
	}
	if s.MTU == other.MTU {
		s.MTU = 0
	}
	if orUnset(s.TxQLen) == orUnset(other.TxQLen) {
		s.TxQLen = nil
	}
	if orUnset(s.Promisc) == orUnset(other.Promisc) {
		s.Promisc = nil
	}
	if orUnset(s.AllMulti) == orUnset(other.AllMulti) {
		s.AllMulti = nil
	}
	return s
}

// Set changes a link. It goes on past failures.
func (s Settings) Set(ns *netns.NS, name string) error {
	h, l, err := MustFind(ns, name)
	if err != nil {
		return err
	}
	var mac net.HardwareAddr
	if s.MAC != "" {
		if mac, err = net.ParseMAC(s.MAC); err != nil {
			return err
		}
	}
	var errs []error
	for _, change := range []struct {
		wanted bool
		words  string
		set    func() error
	}{
		{s.MAC != "", "address " + s.MAC, func() error { return h.LinkSetHardwareAddr(l, mac) }},
		{s.MTU != 0, fmt.Sprintf("mtu %d", s.MTU), func() error { return h.LinkSetMTU(l, s.MTU) }},
		{s.TxQLen != nil, "txqueuelen", func() error { return h.LinkSetTxQLen(l, *s.TxQLen) }},
		{s.Promisc != nil, "promisc", func() error { return setFlag(s.Promisc, l, h.SetPromiscOn, h.SetPromiscOff) }},
		{s.AllMulti != nil, "allmulticast", func() error { return setFlag(s.AllMulti, l, h.LinkSetAllmulticastOn, h.LinkSetAllmulticastOff) }},
	} {
		if !change.wanted {
			continue
		}
		if err := change.set(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", change.words, err))
		}
	}
	return errors.Join(errs...)
}

func setFlag(want *bool, l netlink.Link, on, off func(netlink.Link) error) error {
	if *want {
		return on(l)
	}
	return off(l)
}
