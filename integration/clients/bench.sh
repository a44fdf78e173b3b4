#!/usr/bin/env bash
# How long a container takes to start with the plugins and with the reference
# plugins, in turn, as Markdown. Run by scripts/bench.sh -clients, with
#
#   REFERENCE_BIN   directory of the reference plugins
#   ROUNDS          of each, 15 by default
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-15}

mkdir -p /run/bin
ln -s "$CLIENTS/nerdctl-$NERDCTL_VERSION" /run/bin/nerdctl
use_containerd2
rmdir "$plugins"
use() { ln -sfnT "$1" "$plugins"; }
use "$DOCKYARD_BIN"

# median FILE: of the numbers in it.
median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# compare WHAT START STOP: START is called with "none" or "net", and timed; STOP
# takes away what it made. The first round is not counted.
compare() {
    local what=$1 start=$2 stop=$3 round contender began
    rm -f /run/times.*
    for round in $(seq 0 "$rounds"); do
        for contender in none ours reference; do
            [[ $contender == reference ]] && use "$REFERENCE_BIN" || use "$DOCKYARD_BIN"
            began=$(date +%s%N)
            [[ $contender == none ]] && need "$start" none || need "$start" net
            ((round == 0)) || echo $((($(date +%s%N) - began) / 100000)) >>"/run/times.$contender"
            need "$stop"
        done
    done
    awk -v what="$what" -v none="$(median /run/times.none)" -v ours="$(median /run/times.ours)" -v ref="$(median /run/times.reference)" 'BEGIN {
        printf "| %s | %.0f ms | %.0f ms | %.2fx | %.0f ms | %.0f ms | %.1fx |\n",
            what, ours / 10, ref / 10, ref / ours, (ours - none) / 10, (ref - none) / 10, (ref - none) / (ours - none) }'
}

containerd_config 2 >/run/containerd.toml
containerd -c /run/containerd.toml >/run/containerd.log 2>&1 &
containerd=$!
image=localhost/busybox:1
echo '| start of a container (medians) | Dockyard | reference | ratio | network, Dockyard | network, reference | ratio |'
echo '| --- | --- | --- | --- | --- | --- | --- |'

nerdctl() { command nerdctl --data-root /var/lib/nerdctl "$@"; }
wants Server nerdctl version
need nerdctl load -i "$CLIENTS/busybox.tar"
need nerdctl network create --subnet 10.89.1.0/24 one
start_nerdctl() {
    if [[ $1 == none ]]; then
        nerdctl run -d --name bench --network none $image sleep 1000
    else
        nerdctl run -d --name bench --network one -p 18080:80 $image sleep 1000
    fi
}
stop_nerdctl() { nerdctl rm -f bench; }
compare "\`nerdctl run -p\`, its own list of four plugins" start_nerdctl stop_nerdctl

cp "$here/../../conf-examples/kubernetes.conflist" /etc/cni/net.d/10-kubernetes.conflist
socket=unix:///run/containerd/containerd.sock
printf 'runtime-endpoint: %s\nimage-endpoint: %s\ntimeout: 60\n' $socket $socket >/run/crictl.yaml
crictl() { "$CLIENTS/crictl-$CRICTL_VERSION" --config /run/crictl.yaml "$@"; }
need env CONTAINERD_ADDRESS=/run/containerd/containerd.sock nerdctl --data-root /var/lib/nerdctl -n k8s.io load -i "$CLIENTS/busybox.tar"
uid=0
start_pod() {
    local network='{}'
    [[ $1 == net ]] || network='{"namespace_options": {"network": 2}}' # the host's
    uid=$((uid + 1))
    echo "{\"metadata\": {\"name\": \"p\", \"uid\": \"u$uid\", \"namespace\": \"default\"}, \"log_directory\": \"/run/logs\",
        \"port_mappings\": [{\"container_port\": 80, \"host_port\": 18081}], \"linux\": {\"security_context\": $network}}" >/run/pod.json
    crictl runp /run/pod.json
}
stop_pod() { crictl rmp -a -f; }
wants '"status":true' sh -c "$CLIENTS/crictl-$CRICTL_VERSION --config /run/crictl.yaml info | jq -c '.status.conditions[] | select(.type == \"NetworkReady\")'"
compare "a pod with a host port by CRI, dual stack" start_pod stop_pod
kill "$containerd"
wait "$containerd" 2>/dev/null || true

podman_config
need podman load -q -i "$CLIENTS/busybox.tar"
need podman network create --subnet 10.90.1.0/24 one
start_podman() {
    if [[ $1 == none ]]; then
        podman run -d --name bench --network none $image sleep 1000
    else
        podman run -d --name bench --network one -p 18082:80 $image sleep 1000
    fi
}
stop_podman() { podman rm -f -t 0 bench; }
compare "\`podman run -p\`, its own list of four plugins" start_podman stop_podman
((failures == 0))
