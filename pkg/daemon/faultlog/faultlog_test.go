package faultlog

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// D6: a problem that lasts is logged once, its end once, and one whose text is
// another each time no more than ten times a minute.
func TestD6LogOnChange(t *testing.T) {
	var out strings.Builder
	l := Log{Log: slog.New(slog.NewTextHandler(&out, nil)), Wrong: "not converged", Right: "converged"}
	lines := func() int {
		n := strings.Count(out.String(), "\n")
		out.Reset()
		return n
	}
	l.Tell(nil)
	if n := lines(); n != 0 {
		t.Errorf("%d lines while nothing is wrong", n)
	}
	for range 1000 {
		l.Tell(errors.New("etcd is away"))
	}
	if n := lines(); n != 1 {
		t.Errorf("%d lines of one problem, want 1", n)
	}
	l.Tell(nil)
	if n := lines(); n != 1 {
		t.Errorf("%d lines of its end, want 1", n)
	}
	for i := range 1000 {
		l.Tell(fmt.Errorf("read tcp 127.0.0.1:%d: connection refused", i))
	}
	if n := lines(); n != 8 {
		t.Errorf("%d lines of a problem whose text changes, want 8", n)
	}
}
