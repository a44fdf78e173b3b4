package iptables

import "testing"

func TestCanonical(t *testing.T) {
	listed, ok := parse(`-A DY-HOSTPORT -d 192.0.2.1/32 -p udp -m udp --dport 53 -m comment --comment "net/c1/eth0" -j DY-DN-1`)
	given := rule{add, "DY-HOSTPORT", []string{"-d", "192.0.2.1", "-p", "udp", "--dport", "53", "-m", "comment", "--comment", "net/c1/eth0", "-j", "DY-DN-1"}}
	if !ok || listed.canonical() != given.canonical() {
		t.Errorf("%q, want %q", listed.canonical(), given.canonical())
	}
	given.spec[1] = "192.0.2.0/24"
	if listed.canonical() == given.canonical() {
		t.Errorf("%q is that of another address", given.canonical())
	}
}
