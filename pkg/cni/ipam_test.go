package cni

import (
	"slices"
	"strings"
	"testing"
)

// A delegated plugin sees what the runtime has set, not what this one sets for itself.
func TestD9CleanEnvironment(t *testing.T) {
	environ := []string{"A=b", overrideName + "=1", "CNI_PATH=/x"}
	for _, c := range []struct{ was, want string }{
		{"", "A=b CNI_PATH=/x"},
		{"true", "A=b CNI_PATH=/x CNI_NETNS_OVERRIDE=true"},
	} {
		was := override
		override = c.was
		out, err := execution().ExecPlugin(t.Context(), "/usr/bin/env", nil, slices.Clone(environ))
		override = was
		if got := strings.Join(strings.Fields(string(out)), " "); err != nil || got != c.want {
			t.Errorf("with %s=%q: %q (%v), want %q", overrideName, c.was, got, err, c.want)
		}
	}
}
