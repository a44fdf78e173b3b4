package iptables

import (
	"slices"
	"strings"
	"testing"
)

func TestQuote(t *testing.T) {
	for _, w := range []string{"a", "", "a b", `a"b`, `a\b`, `\"`, "it's", "#x", "-A", "é", "net/c1/eth0"} {
		line := "-A CHAIN x " + quote(w) + " y"
		if r, ok := parse(line); !ok || !slices.Equal(r.spec, []string{"x", w, "y"}) {
			t.Errorf("%s read as %q", line, r.spec)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`-A DY-HOSTPORT -d 192.0.2.1/32 -p tcp -m tcp --dport 80 -m comment --comment "net/c1/eth0" -j DY-DN-0`)
	f.Fuzz(func(t *testing.T, line string) {
		if r, ok := parse(line); ok && !strings.ContainsAny(line, "\t\r\n") {
			if again, ok := parse(r.String()); !ok || !slices.Equal(again.spec, r.spec) {
				t.Errorf("%q read as %q, then %q", line, r.spec, again.spec)
			}
		}
	})
}

func TestValidateConditions(t *testing.T) {
	for _, line := range []string{
		"-s 10.0.0.0/8,192.0.2.0/24", "! -i eth0", "-m policy --dir in --pol ipsec", "-m recent --set --name x",
		"-m statistic --mode random --probability 0.5", "--source 10.0.0.1", "-m string --string x --algo bm --to 99",
		"-m limit --limit 5/s", "-m conntrack --ctstate NEW", "-m owner --uid-owner 0",
	} {
		if err := ValidateConditions(strings.Fields(line)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, w := range []string{
		"", "-j", "-jACCEPT", "-A", "-D", "-t", "-g", "-M", "-vj", "--", "--j", "--jump", "--jum", "--jump=ACCEPT",
		"--goto", "--modprobe=/bin/sh", "--modp", "--append", "--table", "--delete", "a\nCOMMIT", "a\x00",
	} {
		if err := ValidateConditions([]string{"-s", "10.0.0.1", w}); err == nil {
			t.Errorf("%q is accepted", w)
		}
	}
}
