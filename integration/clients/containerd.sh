#!/usr/bin/env bash
# containerd 1.6 as Debian 12 has it, and its CRI by crictl. Run by run.sh, and by
# containerd2.sh for version 2.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
install_plugins

version=1 cni=1.0.0
if [[ $client == containerd2 ]]; then
    use_containerd2
    version=2 cni=1.1.0 # from which on it asks for STATUS
fi
containerd_config $version >/run/containerd.toml
jq --arg version $cni '.cniVersion = $version | .plugins += [{type: "dns-hosts", capture: true}]' \
    "$here/../../conf-examples/kubernetes.conflist" >/etc/cni/net.d/10-kubernetes.conflist
names_daemon
pods=${PODS:-50} # at once
socket=unix:///run/containerd/containerd.sock
printf 'runtime-endpoint: %s\nimage-endpoint: %s\ntimeout: 60\n' $socket $socket >/run/crictl.yaml
crictl() { "$CLIENTS/crictl-$CRICTL_VERSION" --config /run/crictl.yaml "$@"; }

start_containerd() {
    containerd -c /run/containerd.toml >>/run/containerd.log 2>&1 &
    containerd=$!
    wants 'NetworkReady.*true|"status": true' network_ready
}
network_ready() { crictl info 2>/dev/null | jq -c '.status.conditions[] | select(.type == "NetworkReady")' | grep '"status":true' && echo '"status": true'; }

# pod NAME [PORT [ANNOTATIONS]]: prints its ID.
pod() {
    local ports="[]"
    [[ -z ${2:-} ]] || ports="[{\"protocol\": 0, \"container_port\": 80, \"host_port\": $2}]"
    cat >"/run/pod-$1.json" <<CONF
{"metadata": {"name": "$1", "uid": "$1", "namespace": "default"}, "hostname": "$1", "log_directory": "/run/logs",
 "port_mappings": $ports, "annotations": ${3:-{\}}, "linux": {}}
CONF
    crictl runp "/run/pod-$1.json"
}

# container NAME POD: a server that answers with the name.
container() {
    cat >"/run/container-$1.json" <<CONF
{"metadata": {"name": "$1"}, "image": {"image": "localhost/busybox:1"}, "log_path": "$1.log", "linux": {},
 "command": ["/bin/sh", "-c", "echo $1 > /tmp/index.html; httpd -f -p 80 -h /tmp"]}
CONF
    local id
    id=$(crictl create "$2" "/run/container-$1.json" "/run/pod-$1.json")
    crictl start "$id" >/dev/null
    echo "$id"
}

address() { crictl inspectp -o json "$1" | jq -r .status.network.ip; }
remove() {
    crictl stopp "$1" >/dev/null
    crictl rmp "$1" >/dev/null
}

step "$(containerd --version)"
start_containerd
need ctr -n k8s.io images import "$CLIENTS/busybox.tar"

step "a pod with a host port, of both families"
web=$(pod web 18080)
container web "$web" >/run/web.id
wants '10\.244\.0\.' address "$web"
wants web fetch http://127.0.0.1:18080/
wants fd00:244: crictl exec "$(cat /run/web.id)" ip addr show eth0
wants 'lo:.*UP' crictl exec "$(cat /run/web.id)" ip addr show lo
wants web fetch "http://[$(crictl inspectp -o json "$web" | jq -r '.status.network.additionalIps[0].ip')]/"

step "a pod with limits as kubelet asks for them"
slow=$(pod slow "" '{"kubernetes.io/ingress-bandwidth": "8M", "kubernetes.io/egress-bandwidth": "4M"}')
container slow "$slow" >/run/slow.id
wants 'rate 8Mbit.*' tc qdisc show
wants 'ifb' ip -d link show type ifb
wants web crictl exec "$(cat /run/slow.id)" wget -qO- "http://$(address "$web")/"

step "a pod finds another by its name, though its resolv.conf is as CRI makes it"
wants 'nameserver 192\.0\.2\.53' crictl exec "$(cat /run/slow.id)" cat /etc/resolv.conf
wants web crictl exec "$(cat /run/slow.id)" wget -qO- http://web/
wants slow crictl exec "$(cat /run/web.id)" wget -qO- http://slow/
remove "$slow"
refuses sh -c 'ip -o link show type ifb | grep .'

step "a host port that is taken is told"
refuses pod thief 18080
for id in $(crictl pods -q --name thief); do remove "$id"; done

step "containerd restarts: pods go on"
kill -9 "$containerd"
wait "$containerd" 2>/dev/null || true
wants web fetch http://127.0.0.1:18080/
start_containerd
wants web fetch http://127.0.0.1:18080/
second=$(pod second 18081)
container second "$second" >/dev/null
wants second fetch http://127.0.0.1:18081/

step "$pods pods at once"
running=()
for i in $(seq "$pods"); do
    pod "many$i" $((19000 + i)) >"/run/many$i.id" &
    running+=($!)
done
for id in "${running[@]}"; do wait "$id" || fail "one of $pods pods did not start"; done
addresses=$(for i in $(seq "$pods"); do address "$(cat "/run/many$i.id")"; done | sort -u | wc -l)
[[ $addresses == "$pods" ]] || fail "$pods pods have $addresses addresses"
running=()
for i in $(seq "$pods"); do
    remove "$(cat "/run/many$i.id")" &
    running+=($!)
done
for id in "${running[@]}"; do wait "$id" || fail "one of $pods pods did not go"; done

step "all goes; the namespace of one has gone before"
ip netns del "$(basename "$(crictl inspectp -o json "$second" | jq -r '.info.runtimeSpec.linux.namespaces[] | select(.type == "network").path')")"
remove "$second"
remove "$web"
wants '^0$' sh -c "$(declare -f crictl); CLIENTS=$CLIENTS CRICTL_VERSION=$CRICTL_VERSION; crictl pods -q | wc -l"
kill "$containerd"
wait "$containerd" || true
kill "$names"
wait "$names" || fail "dns-hosts daemon: $?"
finish
