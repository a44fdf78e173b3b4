package zone

import (
	"fmt"
	"strconv"
	"strings"
)

// Limits of RFC 1035, section 2.3.4, as text without the final dot.
const (
	maxLabel = 63
	maxName  = 253
)

// ShortID returns the part of a container's ID that is a name of it, as Docker
// has it: 12 characters. nerdctl's ID for CNI is "<namespace>-<ID>".
func ShortID(containerID string) string {
	const short, whole = 12, 64
	if at := len(containerID) - whole; at > 0 && containerID[at-1] == '-' && !strings.ContainsFunc(containerID[at:], notHex) {
		containerID = containerID[at:]
	}
	return strings.ToLower(strings.TrimRight(containerID[:min(short, len(containerID))], "-."))
}

func notHex(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }

// NameWanted describes what ParseName takes, for error messages.
const NameWanted = "a name of letters, digits, '-' and '_' in labels of 1 to 63, separated by dots, 253 in all; neither localhost nor like an address"

// ParseName returns a name in lower case, as it is kept and compared. A name is
// one label or several, separated by dots, as container names may have dots.
// Labels are letters, digits, and inside also '-'; '_' is allowed too, as
// runtimes and compose files have it in names. A name that is reserved is nobody's.
func ParseName(s string) (string, error) {
	if s == "" || len(s) > maxName {
		return "", fmt.Errorf("a name of %d bytes, want 1 to %d", len(s), maxName)
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return "", fmt.Errorf("%q is no label of a name", label)
		}
	}
	s = strings.ToLower(s)
	if reserved(s) {
		return "", fmt.Errorf("%q means the host itself, or is written like an address", s)
	}
	return s, nil
}

// reserved reports whether a name, in lower case, has a meaning that no container may
// take over: it is localhost or below it (RFC 6761, section 6.3), the like of hosts(5),
// or written like an address, for which C libraries ask nobody (inet_aton(3)).
func reserved(name string) bool {
	switch name {
	case "localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback", "ip6-allnodes", "ip6-allrouters":
		return true
	}
	return strings.HasSuffix(name, ".localhost") || isIPv4(name)
}

// isIPv4 reports whether inet_aton(3) takes a text: up to four numbers, of which the last
// fills what the others leave, each decimal, octal or hexadecimal.
func isIPv4(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return false
	}
	for i, p := range parts {
		base, bits := 10, 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts))
		}
		if hex, ok := strings.CutPrefix(p, "0x"); ok {
			p, base = hex, 16
		} else if len(p) > 1 && p[0] == '0' {
			base = 8
		}
		if _, err := strconv.ParseUint(p, base, bits); err != nil {
			return false
		}
	}
	return true
}

func isLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		default:
			return false
		}
	}
	return true
}
