package etcdstore

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

func say(t *testing.T, s *Store, own map[string]string) map[netip.Addr][]string {
	t.Helper()
	abreast(t, s)
	others, err := s.Names(t.Context(), own)
	if err != nil {
		t.Fatal(err)
	}
	return others
}

// Each host has the others' names as these said them last, and who is not there
// says nothing.
func TestNames(t *testing.T) {
	client := etcd(t)
	a, b := member(t, client, 1), member(t, client, 2)
	if _, err := a.Names(t.Context(), nil); !errors.Is(err, ErrUnregistered) {
		t.Errorf("found %v before Look", err)
	}
	look(t, a)
	look(t, b)
	many := map[string]string{}
	for i := range 250 { // more than fit in a transaction
		many[fmt.Sprintf("c%03d/eth0", i)] = fmt.Sprint("name ", i)
	}
	if others := say(t, a, many); len(others) != 0 {
		t.Errorf("a hears %v", others)
	}
	for len(b.NamesChanged()) > 0 {
		<-b.NamesChanged()
	}
	want := slices.Collect(func(yield func(string) bool) {
		for i := range 250 {
			_ = yield(fmt.Sprint("name ", i))
		}
	})
	if got := say(t, b, map[string]string{"c/eth0": "b's"})[a.Self.Address]; !slices.Equal(got, want) {
		t.Errorf("b hears %q", got)
	}
	for range 2 { // nothing of Look's is touched
		if hosts := look(t, a); len(hosts) != 2 {
			t.Errorf("found hosts %v", hosts)
		}
	}
	maps.DeleteFunc(many, func(key, _ string) bool { return key != "c007/eth0" })
	many["c007/eth0"] = "another"
	if got := say(t, a, many)[b.Self.Address]; !slices.Equal(got, []string{"b's"}) {
		t.Errorf("a hears %q", got)
	}
	select {
	case <-b.NamesChanged():
	case <-time.After(testnet.Patience):
		t.Error("b is not woken")
	}
	if got := say(t, b, nil)[a.Self.Address]; !slices.Equal(got, []string{"another"}) {
		t.Errorf("b hears %q", got)
	}
	if _, err := client.Revoke(t.Context(), clientv3.LeaseID(a.lease.Load())); err != nil {
		t.Fatal(err)
	}
	if others := say(t, b, nil); len(others) != 0 {
		t.Errorf("b hears of a host that is gone: %v", others)
	}
	many["c008/eth0"] = "new" // a may not have heard yet that all else is gone
	if _, err := a.Names(t.Context(), many); err == nil {
		t.Error("a host without lease can say names")
	}
}
