#!/usr/bin/env bash
# podman 4.3 with its CNI backend, as Debian 12 has it. Run by run.sh.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
install_plugins

# podman's CNI backend gives names to a network if there is a plugin dnsname.
ln -s dns-hosts "$plugins/real/dnsname"
cp "$CLIENTS/record" "$plugins/dnsname"
podman_config
image=localhost/busybox:1
run() { need podman run -d --name "$@"; }
serve() { echo "echo $1 > /tmp/index.html; httpd -f -p 80 -h /tmp"; } # TEXT

step "$(podman --version)"
need podman load -q -i "$CLIENTS/busybox.tar"

step "networks"
need podman network create --subnet 10.90.1.0/24 one
need podman network create --subnet 10.90.2.0/24 --ipv6 --subnet fd00:90:2::/64 two
need podman network create --internal --subnet 10.90.3.0/24 inner
wants firewall cat /etc/cni/net.d/one.conflist

step "a published port"
run web --network one -p 18080:80 $image sh -c "$(serve web)"
wants web fetch http://127.0.0.1:18080/
run other --network one $image sleep 1000
wants web podman exec other wget -qO- http://10.90.1.2/
wants web podman exec other wget -qO- http://10.90.1.1:18080/
wants web podman exec web wget -qO- http://10.90.1.1:18080/

step "static address and MAC, two networks, names"
# podman numbers interfaces in any order.
run static --network one:ip=10.90.1.77,mac=02:00:00:00:00:77,interface_name=eth0 --network two:interface_name=eth1 $image sleep 1000
wants '10\.90\.1\.77/24.*02:00:00:00:00:77|02:00:00:00:00:77.*10\.90\.1\.77/24' podman exec static ip addr show eth0
wants 'fd00:90:2::' podman exec static ip addr show eth1

step "names and aliases, by a link to dns-hosts that is called dnsname"
wants '"type": "dnsname"' cat /etc/cni/net.d/one.conflist
names_daemon
get() { wants "$2" podman exec "$1" wget -qO- "http://$3/"; } # CONTAINER TEXT NAME
lacks() { wants NXDOMAIN podman exec "$1" sh -c "nslookup -type=a $2.dns.podman || true"; }
run db --network one --network-alias database --network-alias sql $image sh -c "$(serve db)"
run stranger --network two $image sleep 1000
wants 'nameserver 127\.0\.0\.11' podman exec other cat /etc/resolv.conf
for name in db database sql db.dns.podman "$(podman inspect -f '{{slice .ID 0 12}}' db)"; do get other db "$name"; done
get other web web
get db web web
lacks other nobody
lacks stranger db

step "names follow connect and disconnect"
need podman network connect --alias store two db
for name in db store; do get stranger db "$name"; done
get static db db # on both networks
lacks other store
need podman network disconnect one db
lacks other db
lacks other database
get stranger db store
need podman network connect --alias database one db
get other db database
need podman network disconnect two db
lacks stranger store

step "names while the daemon is away, and after"
kill -9 "$names"
wait "$names" 2>/dev/null || true
need podman restart -t 0 db
names_daemon
get other db database
need podman rm -f -t 0 db
lacks other db

step "disconnect and connect while it runs"
need podman network disconnect two static
refuses podman exec static ip addr show eth1
need podman network connect --ip 10.90.2.9 two static
wants '10\.90\.2\.9/24' podman exec static ip addr
need podman network disconnect two static
need podman network connect two static

step "an internal network has no way out"
run inside --network inner $image sleep 1000
wants '10\.90\.3\.' podman exec inside ip addr show eth0
refuses podman exec inside ip route get 192.0.2.1

step "two networks and one port: the first has it, then the next"
run both --network one --network two -p 18081:80 $image sh -c "$(serve both)"
wants both fetch http://127.0.0.1:18081/
need podman network disconnect one both
wants both fetch http://127.0.0.1:18081/
need podman network connect one both
wants both fetch http://127.0.0.1:18081/
refuses podman run -d --name thief --network two -p 18081:80 $image sleep 1000
podman rm -f -t 0 thief >/dev/null 2>&1 || true

step "reload, restart"
need podman network reload web
wants web fetch http://127.0.0.1:18080/
need podman restart -t 0 web
wants web fetch http://127.0.0.1:18080/

step "a container whose process is killed"
kill -9 "$(podman inspect -f '{{.State.Pid}}' web)"
wants exited podman inspect -f '{{.State.Status}}' web
need podman start web
wants web fetch http://127.0.0.1:18080/

step "a pod"
need podman pod create --name pod --network one -p 18082:80 --infra-image $image --infra-command "/bin/sleep 100000" --share net
run inpod --pod pod $image sh -c "$(serve pod)"
wants pod fetch http://127.0.0.1:18082/
need podman pod rm -f -t 0 pod

step "all goes"
need podman rm -f -t 0 -a
need podman network rm one two inner
kill "$names"
wait "$names" || fail "dns-hosts daemon: $?"
finish
