package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A NotFoundError says that no network has a name; its text is Docker's.
type NotFoundError struct{ Name string }

func (e *NotFoundError) Error() string { return fmt.Sprintf("network %s not found", e.Name) }

// Network finds a network by its name, its ID, or the beginning of its ID.
func (inv *Inventory) Network(text string) (*Network, error) {
	var found []*Network
	for i := range inv.Networks {
		if n := &inv.Networks[i]; n.Name == text && n.Name != "" {
			if n.Problem == "" {
				return n, nil
			}
			return nil, fmt.Errorf("%s: %s", n.File, n.Problem)
		} else if n.Name != "" && text != "" && strings.HasPrefix(n.ID(), text) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return nil, &NotFoundError{text}
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("network %s is ambiguous (%d matches found based on ID prefix)", text, len(found))
}

// On lists the attachments to a network, of the states given or all.
func (inv *Inventory) On(network string, states ...State) []*Attachment {
	var out []*Attachment
	for _, a := range inv.Attachments {
		if inv.isOn(a, network) && (len(states) == 0 || slices.Contains(states, a.State)) {
			out = append(out, a)
		}
	}
	return out
}

// isOn also knows a network by a mark that has cut its name.
func (inv *Inventory) isOn(a *Attachment, network string) bool {
	return a.Network == network || a.Mark.OnNetwork(network)
}

// Of lists the attachments of a container that are not known to be gone.
func (inv *Inventory) Of(c *Container) []*Attachment {
	return slices.DeleteFunc(slices.Clone(inv.Attachments), func(a *Attachment) bool {
		return a.ContainerID != c.CNIID || a.State == Gone
	})
}

// An Orphan is what is left of an attachment, or of a network.
type Orphan struct {
	Mark   owner.Mark
	What   []string
	Reason string
}

// Orphans lists what is left of attachments that are gone, and what is a link's that
// is gone.
func (inv *Inventory) Orphans() (out []Orphan) {
	for _, a := range inv.Attachments {
		if a.State == Gone {
			out = append(out, Orphan{a.Mark, a.Parts(), a.Reason})
		}
	}
	links := map[string]bool{}
	for _, l := range inv.Links {
		links[l.Name] = true
	}
	for _, c := range inv.Claims {
		if c.Mark.OnNetwork("*") && !links[c.Mark.Container()] {
			out = append(out, Orphan{c.Mark, []string{"nft " + c.Kind}, "link " + c.Mark.Container() + " is gone"})
		}
	}
	return out
}

// PortHolder finds who holds a port of the host.
func (inv *Inventory) PortHolder(protocol string, port uint16) *Attachment {
	for _, a := range inv.Attachments {
		for _, p := range a.Ports {
			if p.Held && p.HostPort == port && p.Protocol == protocol {
				return a
			}
		}
	}
	return nil
}

// AddressHolder finds who has an address on a network.
func (inv *Inventory) AddressHolder(network string, addr netip.Addr) *Attachment {
	for _, a := range inv.On(network) {
		if slices.Contains(a.Addrs, addr) {
			return a
		}
	}
	return nil
}

// VNIHolder finds the network that has a VNI.
func (inv *Inventory) VNIHolder(vni int) *Network {
	i := slices.IndexFunc(inv.Networks, func(n Network) bool { return n.VNI == vni && vni != 0 })
	if i < 0 {
		return nil
	}
	return &inv.Networks[i]
}

// Bridge finds the link of the bridge of that name, nil if there is none, and whether
// it was made for the network.
func (inv *Inventory) Bridge(n *Network, mark owner.Mark) (there, ours bool) {
	for _, l := range inv.Links {
		if l.Name == n.Bridge && l.Kind == "bridge" {
			return true, l.Alias == string(mark)
		}
	}
	return false, false
}
