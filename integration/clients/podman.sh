#!/usr/bin/env bash
# podman 4.3 with its CNI backend, as Debian 12 has it. Run by run.sh.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
install_plugins

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
run static --network one:ip=10.90.1.77,mac=02:00:00:00:00:77 --network two $image sleep 1000
wants '10\.90\.1\.77/24.*02:00:00:00:00:77|02:00:00:00:00:77.*10\.90\.1\.77/24' podman exec static ip addr show eth0
wants 'fd00:90:2::' podman exec static ip addr show eth1

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
finish
