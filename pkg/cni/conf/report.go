// Package conf decodes and judges configurations that people write: every
// problem at once, each with its JSON path, what was found and what is allowed.
//
// It knows nothing of CNI; pkg/cni says what the error code is.
package conf

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A Report collects the problems and warnings of one configuration. The zero
// value is ready to use.
type Report struct {
	problems, warnings []string
	undecoded          []string // paths
}

// Undecoded reports whether the value at a path, or one that it is part of, could not
// be decoded. Its field has the default then, which is not to be judged.
func (r *Report) Undecoded(path string) bool {
	return slices.ContainsFunc(r.undecoded, func(b string) bool {
		rest, part := strings.CutPrefix(path, b)
		return part && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// problem records a problem of the values at some paths, separated by ", ",
// unless one of them could not be decoded: what comes of a mistake is no second
// mistake.
func (r *Report) problem(paths, text string) {
	if !slices.ContainsFunc(strings.Split(paths, ", "), r.Undecoded) {
		r.problems = append(r.problems, paths+": "+text)
	}
}

// wrong records that a value is not of the type that is wanted.
func (r *Report) wrong(path string, found json.RawMessage, want string) {
	r.Bad(path, found, "%s", want)
	r.undecoded = append(r.undecoded, path)
}

// Bad records that the value at a JSON path ("ipam.ranges[0].subnet") is not
// allowed, what was found there, and in want what is allowed or what to do.
func (r *Report) Bad(path string, found any, want string, args ...any) {
	r.problem(path, fmt.Sprintf("found %s, want %s", quote(found), fmt.Sprintf(want, args...)))
}

// Missing records that a required key is not there.
func (r *Report) Missing(path, want string, args ...any) {
	r.problem(path, "missing, want "+fmt.Sprintf(want, args...))
}

// Conflict records that keys exclude one another, or contradict one another.
// The paths are separated by ", ".
func (r *Report) Conflict(paths, why string, args ...any) {
	r.problem(paths, fmt.Sprintf(why, args...))
}

// Warn records something that is allowed but probably not meant.
func (r *Report) Warn(path, text string, args ...any) {
	r.warnings = append(r.warnings, path+": "+fmt.Sprintf(text, args...))
}

// Problems returns one line a problem, in the order in which they were found.
func (r *Report) Problems() []string { return r.problems }

// Warnings returns one line a warning.
func (r *Report) Warnings() []string { return r.warnings }

// Err returns nil if there was no problem, otherwise an error whose text is
// all of them, separated by "; ".
func (r *Report) Err() error {
	if len(r.problems) == 0 {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(r.problems, "; "))
}

// quote prints a value as JSON, cut to a length that fits an error message.
func quote(v any) string {
	const limit = 60
	if s, ok := v.(fmt.Stringer); ok {
		v = s.String()
	}
	raw, ok := v.(json.RawMessage)
	if !ok {
		raw, _ = json.Marshal(v)
	}
	if s := []rune(string(raw)); len(s) > limit {
		return string(s[:limit]) + "…"
	}
	return string(raw)
}

// Range reports a number outside low to high.
func (r *Report) Range(path string, found, low, high int) {
	if found < low || found > high {
		r.Bad(path, found, "%d to %d", low, high)
	}
}

// What the kernel takes.
const (
	MinMTU  = 68 // ETH_MIN_MTU
	MaxMTU  = 65535
	MaxVLAN = 4094
)

// MTU reports one that no link can have. 0 is allowed, and stands for what
// otherwise says.
func (r *Report) MTU(path string, found int, otherwise string) {
	if found != 0 && (found < MinMTU || found > MaxMTU) {
		r.Bad(path, found, "%d to %d, or 0 for %s", MinMTU, MaxMTU, otherwise)
	}
}

// MaxLinkName is the length in bytes of the longest name of a link (IFNAMSIZ - 1).
const MaxLinkName = 15

// LinkName reports a name that no link can have: the kernel takes 1 to 15 bytes
// without slash, colon or white space (dev_valid_name).
func (r *Report) LinkName(path, found string) {
	if found == "" || len(found) > MaxLinkName || found == "." || found == ".." ||
		strings.ContainsFunc(found, func(c rune) bool { return c <= ' ' || c >= 127 || c == '/' || c == ':' }) {
		r.Bad(path, found, "a link name of 1 to %d letters, digits and marks, without '/', ':' or space", MaxLinkName)
	}
}

// Index is the JSON path of element i of a list.
func Index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
