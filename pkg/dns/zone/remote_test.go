package zone

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var there, elsewhere = netip.MustParseAddr("192.0.2.12"), netip.MustParseAddr("2001:db8::12")

func setRemote(t *testing.T, s Store, network string, of map[netip.Addr][]Record) {
	t.Helper()
	if err := s.SetRemote(network, of); err != nil {
		t.Fatal(err)
	}
}

func remoteNames(t *testing.T, r *Reader) (out []string) {
	t.Helper()
	records, err := r.Remote()
	if err != nil {
		t.Error(err)
	}
	for _, one := range records {
		out = append(out, one.Names[0])
	}
	return out
}

// The hosts of a network are those of the last call, whatever was before; other
// networks are left alone, and what did not change is the same as before.
func TestSetRemote(t *testing.T) {
	s := Store{Root: t.TempDir()}
	r := s.Reader()
	if got := remoteNames(t, r); got != nil {
		t.Errorf("of nothing: %q", got)
	}
	a, b := *record("one", "c1", "eth0", []string{"a"}, "10.1.0.2"), *record("one", "c2", "eth0", []string{"b"}, "10.1.1.2")
	long := *record(strings.Repeat("n", 60), "c3", "eth0", []string{"long"}, "10.3.0.2")
	setRemote(t, s, "one", map[netip.Addr][]Record{there: {a}, elsewhere: {b}})
	setRemote(t, s, long.Network, map[netip.Addr][]Record{there: {long}})
	if got := remoteNames(t, r); !slices.Equal(got, []string{"a", "b", "long"}) && !slices.Equal(got, []string{"long", "a", "b"}) {
		t.Errorf("found %q", got)
	}
	before, _ := r.Remote()
	setRemote(t, s, "one", map[netip.Addr][]Record{there: {a}, elsewhere: {b}})
	if after, _ := r.Remote(); !slices.Equal(after, before) {
		t.Error("the same is read again")
	}
	setRemote(t, s, "one", map[netip.Addr][]Record{elsewhere: {a}})
	setRemote(t, s, long.Network, nil)
	if got := remoteNames(t, r); !slices.Equal(got, []string{"a"}) {
		t.Errorf("found %q", got)
	}
}

// A file that somebody else wrote is served as far as it can be.
func TestRemoteForeign(t *testing.T) {
	s := Store{Root: t.TempDir()}
	if err := os.Mkdir(s.Remote(), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"one@192.0.2.1": "garbage",
		"one@192.0.2.2": `[{"mark":"two/c/eth0","network":"two","names":["x"]}, 7, {"mark":"one/c/eth0","network":"one","names":["good"]}]`,
		"one@192.0.2.3": `[{"mark":"one/c/eth0","network":"one","names":["a b"]}]`,
		"nobody":        `[{"mark":"one/c/eth0","network":"one","names":["y"]}]`,
		".new-one@":     `[{"mark":"one/c/eth0","network":"one","names":["z"]}]`,
	} {
		if err := os.WriteFile(filepath.Join(s.Remote(), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	records, err := s.Reader().Remote()
	if len(records) != 1 || records[0].Names[0] != "good" {
		t.Errorf("found %v", records)
	}
	for _, want := range []string{"192.0.2.1", `mark "two/c/eth0"`, `"a b"`, "cannot unmarshal number"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("found error %v, want %q in it", err, want)
		}
	}
}

// Remote containers have names on networks of this host, and no view; nobody
// takes over what an address of this host is called.
func TestRemoteNames(t *testing.T) {
	here := record("one", "c1", "eth0", []string{"web"}, "10.1.0.2")
	remote := record("one", "r1", "eth0", []string{"db", "thief"}, "10.1.1.2", "10.1.0.2")
	remote.NetNS = ""
	c := catalog(here)
	c.SetRemote([]*Record{remote, record("two", "r2", "eth0", []string{"other"}, "10.2.0.2")})
	if c.View("r1") != nil {
		t.Fatal("a container of another host has a view")
	}
	v := c.View("c1")
	for question, want := range map[string]string{
		"db": "10.1.0.2 10.1.1.2", "db.one": "10.1.0.2 10.1.1.2", "web": "10.1.0.2", "other": "?",
	} {
		if got := v.Answer(question, 1).text(); got != want {
			t.Errorf("%s: found %s, want %s", question, got, want)
		}
	}
	for question, want := range map[string]string{"2.0.1.10.in-addr.arpa": "web.one", "2.1.1.10.in-addr.arpa": "db.one"} {
		if got := v.Answer(question, 12).Name; got != want {
			t.Errorf("%s: found %s, want %s", question, got, want)
		}
	}
	c.SetRemote(nil)
	if v.Answer("db", 1).Known {
		t.Error("a name stays without its record")
	}
}
