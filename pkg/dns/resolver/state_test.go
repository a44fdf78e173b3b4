package resolver

import (
	"encoding/json"
	"strings"
	"testing"
)

// Names of metrics that users may rely on stay readable beside their successors.
func TestFormerNames(t *testing.T) {
	s := State{Reconciles: 3, Looks: 3}
	var metrics strings.Builder
	if err := s.Metrics(&metrics); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\ndns_hosts_reconciles_total 3\n", "\ndns_hosts_looks_total 3\n"} {
		if !strings.Contains(metrics.String(), want) {
			t.Errorf("%q is missing from\n%s", want, metrics.String())
		}
	}
	data, err := json.Marshal(s)
	if err != nil || !strings.Contains(string(data), `"reconciles":3,"looks":3`) {
		t.Errorf("%s, %v", data, err)
	}
}
