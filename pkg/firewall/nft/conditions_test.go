package nft

import (
	"strings"
	"testing"
)

var set40 = "{" + strings.Repeat("192.0.2.1,", 39) + "192.0.2.1}"

func TestParseConditions(t *testing.T) {
	for _, c := range []struct {
		ipv6  bool
		words string
		want  string // part of the error; "" for none
	}{
		{false, "", ""},
		{false, "ip saddr 192.0.2.1", ""},
		{false, "ip saddr != 192.0.2.0/24", ""},
		{false, "ip daddr 192.0.2.0/24 iifname eth0", ""},
		{false, "-s 192.0.2.0/24 -i eth0", ""},
		{false, "! -d 192.0.2.0/24", ""},
		{false, "! --src 192.0.2.1 --in-interface eth0", ""},
		{true, "ip6 saddr 2001:db8::/32", ""},
		{true, "-d 2001:db8::1 iifname != eth0", ""},
		{false, "ip daddr != { 127.0.0.0/8, 192.0.2.20 }", ""},
		{false, "ip saddr {192.0.2.0/24,198.51.100.1-198.51.100.9} tcp dport != 1-1023", ""},
		{false, `meta iifname "eth*" ip saddr 192.0.2.1 - 192.0.2.9`, ""},
		{false, "tcp dport { http, 8080-8090 } tcp sport >= 1024", ""},
		{false, "meta l4proto { tcp, udp } meta mark != 0x1 fib saddr type != local", ""},
		{false, "-s 192.0.2.0/24,198.51.100.1 -i eth+", ""},
		{false, "ip saddr { 192.0.2.1", "want a '}'"},
		{false, "ip saddr { }", "value is missing"},
		{false, "ip saddr @allowed", "family ip"},
		{false, "ip saddr $ALLOWED", "family ip"},
		{false, "ip saddr < 192.0.2.1", "want == or !="},
		{false, "tcp dport > 1-5", "== or != alone"},
		{false, "tcp dport 9-5", "range of ports"},
		{false, "ip saddr { 192.0.2.9-192.0.2.1 }", "family ip"},
		{false, "ct state new", "ip daddr, iifname"},
		{false, "ip saddr " + set40 + " ip daddr " + set40, "1024 combinations"},
		{false, "ip saddr != " + set40 + " ip daddr != " + set40, ""},
		{false, "ip", "want matches"},
		{false, "ip saddr", "want matches"},
		{false, "ip saddr !=", "want matches"},
		{false, "!", "want matches"},
		{false, "ip sport 80", "want matches"},
		{false, "ip6 saddr 2001:db8::1", "want matches"},
		{false, "-s 2001:db8::1", "family ip"},
		{true, "-s 192.0.2.1", "family ip6"},
		{true, "-s ::ffff:192.0.2.1/200", "family ip6"},
		{false, "-s here", "family ip"},
		{false, "iifname a-name-of-16-byt", "1 to 15 bytes"},
		{false, "-j DROP", "want matches"},
		{false, "-s 192.0.2.1 ; flush ruleset", "want matches"},
	} {
		err := ParseConditions(c.ipv6, strings.Fields(c.words))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.words, err, c.want)
		}
	}
}

// Whatever the words, they are refused or become expressions; nothing panics.
func FuzzParseConditions(f *testing.F) {
	for _, words := range []string{"ip saddr != 192.0.2.0/24", "! -d ::1/64", "iifname eth0", "-s", "!", "! !", "ip saddr 0.0.0.0/0", "-i "} {
		f.Add(false, words)
		f.Add(true, words)
	}
	f.Fuzz(func(t *testing.T, ipv6 bool, words string) {
		fam := v4
		if ipv6 {
			fam = v6
		}
		list := strings.Split(words, " ")
		alternatives, err := parseConditions(fam, list)
		for _, rules := range alternatives {
			if err == nil && len(rules) == 0 && len(strings.Fields(words)) > 0 {
				t.Errorf("%q matches everything", list)
			}
			wire(rules)
		}
	})
}
