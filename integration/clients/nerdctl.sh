#!/usr/bin/env bash
# nerdctl 2 on containerd 2, with the lists that nerdctl writes. Run by run.sh.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
install_plugins

use_containerd2
ln -s "$CLIENTS/nerdctl-$NERDCTL_VERSION" /run/bin/nerdctl
printf 'version = 3\n[grpc]\n  address = "/run/containerd/containerd.sock"\n' >/run/containerd.toml
containerd -c /run/containerd.toml >/run/containerd.log 2>&1 &
containerd=$!
nerdctl() { command nerdctl --data-root /var/lib/nerdctl "$@"; }
wants 'Server' nerdctl version

image=localhost/busybox:1
run() { need nerdctl run -d --name "$@"; }
serve() { echo "echo $1 > /tmp/index.html; httpd -f -p 80 -h /tmp"; } # TEXT

step "$(nerdctl --version), containerd $CONTAINERD_VERSION"
need nerdctl load -i "$CLIENTS/busybox.tar"

# A machine beside this one, for macvlan.
ip netns add beside
ip link add uplink type veth peer name eth0 netns beside
ip link set uplink up
ip -n beside link set eth0 up
ip -n beside address add 10.89.5.99/24 dev eth0

step "networks; firewall is new enough for all that nerdctl asks of it"
for args in "--subnet 10.89.1.0/24 one" "--subnet 10.89.2.0/24 --ipv6 --subnet fd00:89:2::/64 two" \
    "--internal --subnet 10.89.3.0/24 inner" "--subnet 10.89.4.0/24 -o icc=false apart" \
    "-d macvlan -o parent=uplink -o mode=bridge -o mtu=1400 --subnet 10.89.5.0/24 --ip-range 10.89.5.0/27 lan"; do
    out=$(nerdctl network create $args 2>&1) || fail "network create $args: $out" # shellcheck disable=SC2086
    [[ $out != *firewall* && $out != *warn* ]] || fail "network create $args warns: $out"
done
wants same-bridge cat /etc/cni/net.d/default/nerdctl-one.conflist
wants isolated cat /etc/cni/net.d/default/nerdctl-apart.conflist
wants '"type": "macvlan"' cat /etc/cni/net.d/default/nerdctl-lan.conflist

step "a published port"
run web --network one -p 18080:80 $image sh -c "$(serve web)"
wants web fetch http://127.0.0.1:18080/
run peer --network one $image sleep 1000
wants web nerdctl exec peer wget -qO- http://10.89.1.2/
wants web nerdctl exec peer wget -qO- http://web/
wants web nerdctl exec peer wget -qO- http://10.89.1.1:18080/

step "networks do not see one another, but for published ports"
run stranger --network two $image sleep 1000
refuses nerdctl exec stranger sh -c 'timeout 2 wget -qO- http://10.89.1.2/'
wants web nerdctl exec stranger wget -qO- http://10.89.2.1:18080/
wants 'fd00:89:2::' nerdctl exec stranger ip addr show eth0

step "containers apart"
run apart1 --network apart $image sh -c "$(serve apart1)"
run apart2 --network apart $image sleep 1000
refuses nerdctl exec apart2 sh -c 'timeout 2 wget -qO- http://10.89.4.2/'
wants apart1 fetch http://10.89.4.2/
need nerdctl run --rm --isolation default --network apart $image true # the only one on Linux

step "an internal network has no way out"
run inside --network inner $image sleep 1000
wants '10\.89\.3\.' nerdctl exec inside ip addr show eth0
refuses nerdctl exec inside ip route get 192.0.2.1
run inside2 --network inner $image sh -c "$(serve inside2)"
wants inside2 nerdctl exec inside wget -qO- http://inside2/

step "macvlan: containers are on the network of a link"
run lan1 --network lan --ip 10.89.5.7 --mac-address 02:00:00:00:00:57 $image sh -c "$(serve lan1)"
run lan2 --network lan $image sleep 1000
wants 'mtu 1400.* 02:00:00:00:00:57 .*inet 10\.89\.5\.7/24' nerdctl exec lan1 ip addr show eth0
wants lan1 nerdctl exec lan2 wget -qO- http://lan1/
wants lan1 ip netns exec beside curl -s -m 2 http://10.89.5.7/
wants ' 0% packet loss' nerdctl exec lan2 ping -c 1 -w 2 10.89.5.99
refuses nerdctl run --rm --network lan --ip 10.89.5.7 $image true
need nerdctl restart -t 0 lan1
wants lan1 ip netns exec beside curl -s -m 2 http://10.89.5.7/

step "two networks at once, and one port of both"
run both --network one --network two -p 18081:80 $image sh -c "$(serve both)"
wants both fetch http://127.0.0.1:18081/
wants '10\.89\.1\.' nerdctl exec both ip addr show eth0
wants '10\.89\.2\.' nerdctl exec both ip addr show eth1

step "static address and MAC"
run static --network one --ip 10.89.1.77 --mac-address 02:00:00:00:00:77 $image sleep 1000
wants '10\.89\.1\.77/24' nerdctl exec static ip addr show eth0
wants '02:00:00:00:00:77' nerdctl exec static ip addr show eth0
refuses nerdctl run --rm --network one --ip 10.89.1.77 $image true

step "restart"
need nerdctl restart -t 0 web
wants web fetch http://127.0.0.1:18080/

step "a list written by hand, the default network, none and host"
cp "$here/../../conf-examples/bridge-user.conflist" /etc/cni/net.d/
run user --network bridge-user -p 18082:80 $image sh -c "$(serve user)"
wants user fetch http://127.0.0.1:18082/
wants '10\.4\.0\.' nerdctl run --rm $image ip addr show eth0
need nerdctl run --rm --network none $image true
need nerdctl run --rm --network host $image true

step "names by dns-hosts, which nerdctl has no DNS for"
names_daemon
cp "$here/../../conf-examples/bridge-link.conflist" /etc/cni/net.d/
run named --network bridge-link --hostname host.of.named $image sh -c "$(serve named)"
run asker --network bridge-link $image sleep 1000
address() { nerdctl exec named ip -o -4 addr show eth0 | grep -oE '172\.31\.1\.[0-9]+' | head -n1; }
ask() { nerdctl exec asker nslookup -type=a "$1" || true; } # the DNS alone, no hosts file
id=$(nerdctl inspect -f '{{.ID}}' named)
for name in named named.bridge-link host.of.named "${id:0:12}"; do
    wants "Server:[[:space:]]+192\.0\.2\.53.*Address: $(address)" ask "$name"
done
need nerdctl restart -t 0 named
wants "Address: $(address)" ask named
need nerdctl rm -f named
wants "can't find named" ask named

step "all goes"
for name in web peer stranger apart1 apart2 inside inside2 lan1 lan2 both static user asker; do need nerdctl rm -f "$name"; done
need nerdctl network rm one two inner apart lan
kill "$names"
wait "$names" || fail "dns-hosts daemon: $?"
ip netns delete beside
kill "$containerd"
wait "$containerd" 2>/dev/null || true
finish
