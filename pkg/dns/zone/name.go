package zone

import (
	"fmt"
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
const NameWanted = "a name of letters, digits, '-' and '_' in labels of 1 to 63, separated by dots, 253 in all"

// ParseName returns a name in lower case, as it is kept and compared. A name is
// one label or several, separated by dots, as container names may have dots.
// Labels are letters, digits, and inside also '-'; '_' is allowed too, as
// runtimes and compose files have it in names.
func ParseName(s string) (string, error) {
	if s == "" || len(s) > maxName {
		return "", fmt.Errorf("a name of %d bytes, want 1 to %d", len(s), maxName)
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return "", fmt.Errorf("%q is no label of a name", label)
		}
	}
	return strings.ToLower(s), nil
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
