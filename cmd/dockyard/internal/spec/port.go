package spec

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/inventory"
)

// ParsePort reads [ADDRESS:]HOST:CONTAINER[/PROTOCOL], where both may be ranges of the
// same length.
func ParsePort(text string) ([]inventory.AskedPort, error) {
	bad := fmt.Errorf("invalid published port %q: want [ADDRESS:]HOST:CONTAINER[/tcp|udp|sctp], as in 8080:80", text)
	rest, proto, _ := strings.Cut(text, "/")
	switch proto {
	case "":
		proto = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return nil, bad
	}
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return nil, bad
	}
	before, container := rest[:i], rest[i+1:]
	ip := ""
	if j := strings.LastIndexByte(before, ':'); j >= 0 {
		ip, before = strings.Trim(before[:j], "[]"), before[j+1:]
		if _, err := netip.ParseAddr(ip); err != nil {
			return nil, bad
		}
	}
	from, to, ok := portRange(before)
	first, last, ok2 := portRange(container)
	if !ok || !ok2 || to-from != last-first {
		return nil, bad
	}
	var out []inventory.AskedPort
	for n := range to - from + 1 {
		out = append(out, inventory.AskedPort{HostPort: from + n, ContainerPort: first + n, Protocol: proto, HostIP: ip})
	}
	return out, nil
}

func portRange(text string) (from, to int, ok bool) {
	a, b, ranged := strings.Cut(text, "-")
	from, err := strconv.Atoi(a)
	to = from
	if err == nil && ranged {
		to, err = strconv.Atoi(b)
	}
	return from, to, err == nil && 0 < from && from <= to && to <= 65535
}
