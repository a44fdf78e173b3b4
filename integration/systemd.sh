#!/usr/bin/env bash
# The daemons as scripts/install.sh installs them, under a real systemd:
#
#   KERNEL_INIT=/lib/systemd/systemd scripts/second-kernel.sh integration/systemd.sh
#
# On an emulated machine of their own, which is gone afterwards.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ -d /run/systemd/system && -e /proc/1/exe && $(readlink /proc/1/exe) == */systemd ]] || { echo "systemd.sh: process 1 is not systemd" >&2; exit 2; }

step() { printf '%3d s  %s\n' "$SECONDS" "$*"; }
die() {
    echo "FAIL: $*" >&2
    SYSTEMD_COLORS=0 systemctl --no-pager --full --lines=20 status dns-hosts vxlan-overlay >&2 || true
    exit 1
}

# wants pattern command...: the command's output must match within a minute, as
# the machine is slow.
wants() {
    local pattern=$1 out="" end=$((SECONDS + 60))
    shift
    while ((SECONDS < end)); do
        out=$("$@" 2>&1) && [[ $out =~ $pattern ]] && return 0
        sleep 0.2
    done
    die "$*: $out; want a match for $pattern"
}

# main UNIT: the process that is the daemon.
main() { systemctl show --property=MainPID --value "$1"; }

cni() { NETCONFPATH=/etc/cni/net.d CNI_PATH=/opt/cni/bin bin/cnitool "$1" "$3" "/run/netns/$2"; }

step "a host with an underlay and an etcd"
ip link add eth1 type veth peer name lan
ip addr add 192.0.2.11/24 dev eth1
ip link set eth1 up
ip link set lan up
url=http://192.0.2.11:2379
systemd-run --quiet --unit=etcd-of-test --property=StateDirectory=etcd-of-test etcd --data-dir /var/lib/etcd-of-test \
    --listen-client-urls $url --advertise-client-urls $url --listen-peer-urls http://127.0.0.1:2380

step "scripts/install.sh"
rm -rf /opt/cni/bin /etc/cni/net.d
mkdir -p /etc/cni/net.d
cp conf-examples/{bridge-dns,overlay-etcd}.conflist /etc/cni/net.d/
scripts/install.sh >/run/installed
systemctl enable --now dns-hosts vxlan-overlay 2>/run/enabled || die "enable: $(cat /run/enabled)"
wants '^active' systemctl is-active dns-hosts
wants '^active' systemctl is-active vxlan-overlay

step "names, in namespaces made after the daemon started"
for c in web client; do
    ip netns add $c
    ip -n $c link set lo up
    CNI_CONTAINERID=$c CNI_ARGS="K8S_POD_NAME=$c" cni add $c bridge-dns >/run/$c.json || die "ADD: $(cat /run/$c.json)"
done
address=$(jq -r '.ips[0].address | split("/")[0]' /run/web.json)
wants "$address" ip netns exec client dig +short +time=5 @127.0.0.11 web

step "an overlay's block, from etcd"
wants /64 cat /run/dockyard/overlay/overlay-etcd.json
ip netns add far
ip -n far link set lo up
CNI_CONTAINERID=far cni add far overlay-etcd >/run/far.json || die "ADD: $(cat /run/far.json)"

step "killed, they are back"
for unit in dns-hosts vxlan-overlay; do
    before=$(main $unit)
    kill -9 "$before"
    wants '^active' systemctl is-active $unit
    wants '^[1-9]' main $unit
    [[ $(main $unit) != "$before" ]] || die "$unit is still process $before"
done
wants "$address" ip netns exec client dig +short +time=5 @127.0.0.11 web

step "uninstalled, nothing of them is left"
CNI_CONTAINERID=far cni del far overlay-etcd
for c in web client; do CNI_CONTAINERID=$c cni del $c bridge-dns; done
scripts/install.sh --uninstall >/run/installed
for unit in dns-hosts vxlan-overlay; do
    [[ $(systemctl is-active $unit) == inactive ]] || die "$unit is $(systemctl is-active $unit)"
    [[ ! -e /etc/systemd/system/$unit.service ]] || die "$unit.service is left"
done
[[ -z $(ls -A /opt/cni/bin) ]] || die "left: $(ls -A /opt/cni/bin)"
step done
