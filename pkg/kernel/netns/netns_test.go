package netns

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

// A listing that is interrupted is none, and is asked for again; any other error is
// the caller's.
func TestDump(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		answers []error // the last one again and again
		want    error
		asked   int
	}{
		"at once":          {[]error{nil}, nil, 1},
		"interrupted":      {[]error{netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, nil}, nil, 3},
		"broken":           {[]error{netlink.ErrDumpInterrupted, broken}, broken, 2},
		"always something": {[]error{netlink.ErrDumpInterrupted}, netlink.ErrDumpInterrupted, 100},
	} {
		asked := 0
		got, err := Dump(func() (int, error) {
			asked++
			return asked, c.answers[min(asked, len(c.answers))-1]
		})
		if !errors.Is(err, c.want) || asked != c.asked || got != asked {
			t.Errorf("%s: %d, %v after %d, want %v after %d", name, got, err, asked, c.want, c.asked)
		}
	}
}
