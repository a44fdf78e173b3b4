package testnet

import (
	"os"
	"strings"
	"testing"
)

// Every kind of object that a plugin may leave is seen, and named.
func TestSnapshotSees(t *testing.T) {
	h := New(t)
	h.Run("sh", "-c", `ip link add br0 type bridge; ip link set br0 up; nft add table inet x; nft add set inet x s '{type ipv4_addr;}'; nft add chain inet x c; nft add map inet x m '{type inet_service : ipv4_addr;}'`)
	for _, c := range []struct{ command, want string }{
		{"true", ""},
		{"ip link add v0 type veth peer name v1", "+ link v0"},
		{"ip link set br0 mtu 1400", "+ link br0: mtu 1400"},
		{"ip link set v0 alias a/b/c", "+ link v0: ifalias a/b/c"},
		{"ip link set v0 master br0", "+ link v0: master br0"},
		{"bridge link set dev v0 hairpin on", "+ link v0: linkinfo.info_slave_data.hairpin true"},
		{"ip addr add 10.9.0.1/24 dev br0", "+ addr br0 10.9.0.1/24"},
		{"ip addr add fd00::1/64 dev br0 nodad", "+ addr br0 fd00::1/64"},
		{"ip route add 10.10.0.0/16 via 10.9.0.2", "+ route type unicast dst 10.10.0.0/16 gateway 10.9.0.2 dev br0"},
		{"ip neigh add 10.9.0.5 lladdr 02:00:00:00:00:05 dev br0 nud permanent", "+ neigh dst 10.9.0.5 dev br0"},
		{"bridge fdb add 02:00:00:00:00:06 dev v0 master", "+ fdb mac 02:00:00:00:00:06 ifname v0"},
		{"nft add element inet x s '{ 10.0.0.1 comment \"me\" }'", `+ nft element inet x s "10.0.0.1"`},
		{"nft add element inet x m '{ 80 comment \"me\" : 10.0.0.1 }'", `+ nft element inet x m 80: [{"elem":{"comment":"me"`},
		{"nft add rule inet x c ip saddr @s accept comment '\"r\"'", "+ nft rule inet x c"},
		{"iptables -t nat -A POSTROUTING -s 10.9.0.0/24 -j MASQUERADE", "+ iptables -t nat POSTROUTING"},
		{"ip6tables-legacy -A FORWARD -j DROP", "+ ip6tables-legacy -t filter FORWARD"},
		{"sysctl -qw net.ipv4.ip_forward=1", "+ sysctl net/ipv4: ip_forward 1"},
		{"sysctl -qw net.ipv4.conf.br0.route_localnet=1", "+ sysctl net/ipv4/conf/br0: route_localnet 1"},
		{"mkdir -p /var/lib/cni/networks; echo c1 > /var/lib/cni/networks/10.0.0.2", "+ file /var/lib/cni/networks/10.0.0.2: c1"},
		{"ip netns add left", "+ file /run/netns/left"},
		{"sleep 60 >/dev/null 2>&1 & echo $! > $PIDFILE", "+ process: sleep 60"},
	} {
		t.Setenv("PIDFILE", h.Dir()+"/pid")
		before := h.Snapshot()
		h.Run("sh", "-c", c.command)
		diff := strings.Join(Diff(before, h.Snapshot()), "\n")
		if (c.want == "") != (diff == "") || !strings.Contains(diff, c.want) {
			t.Errorf("%s: the diff lacks %q:\n%s", c.command, c.want, diff)
		}
	}
	pid, err := os.ReadFile(h.Dir() + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	h.Run("kill", strings.TrimSpace(string(pid)))
}
