#!/usr/bin/env bash
# Runs a command on a machine of its own, as far as namespaces go, for programs
# that expect to own one: container runtimes and their daemons.
#
#   scripts/bottle.sh integration/clients/podman.sh
#
# Beyond what scripts/sandbox.sh gives, hostname, IPC and cgroups are private, and
# what is written to /etc, /opt and /var is gone with the bottle, as is every
# process in it. The files of the machine are seen, and its network is not.
set -euo pipefail

inside() {
    local scratch=/run/bottle dir
    hostname bottle
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/lock /run/netns "$scratch"
    cgroups
    for dir in /etc /opt /var; do
        mkdir -p "$scratch$dir/upper" "$scratch$dir/work"
        mount -t overlay overlay -o "lowerdir=$dir,upperdir=$scratch$dir/upper,workdir=$scratch$dir/work" "$dir"
    done
    # Storage of images, which cannot lie on an overlay.
    for dir in /var/lib/containers /var/lib/containerd /var/lib/kubelet /var/lib/nerdctl /var/lib/cni /var/tmp; do
        mkdir -p "$dir"
        mount -t tmpfs tmpfs "$dir"
    done
    rm -rf /etc/cni /etc/containers /opt/cni
    mkdir -p /etc/cni/net.d /etc/containers /opt/cni/bin
    echo "nameserver 192.0.2.53" >/etc/resolv.conf # TEST-NET-1: nobody is there
    ip link set lo up
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    "$@"
}

# cgroups mounts what the machine has, seen from our own cgroup.
cgroups() {
    local controllers=() c
    if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
        mount -t sysfs sysfs /sys
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        return
    fi
    mapfile -t controllers < <(ls /sys/fs/cgroup)
    mount -t sysfs sysfs /sys
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    for c in "${controllers[@]}"; do
        mkdir "/sys/fs/cgroup/$c"
        case $c in
        unified) mount -t cgroup2 cgroup2 "/sys/fs/cgroup/$c" ;;
        systemd) mount -t cgroup -o none,name=systemd cgroup "/sys/fs/cgroup/$c" ;;
        *) mount -t cgroup -o "$c" cgroup "/sys/fs/cgroup/$c" ;;
        esac
    done
}

# own_cgroups makes cgroups below those that this shell is in, and prints them.
own_cgroups() {
    local id controllers path dir
    while IFS=: read -r id controllers path; do
        if [[ $id == 0 ]]; then
            dir=/sys/fs/cgroup
            [[ -e $dir/cgroup.controllers ]] || dir+=/unified
        else
            dir=/sys/fs/cgroup/${controllers#name=}
        fi
        dir+=${path%/}
        [[ -d $dir ]] || continue
        mkdir -p "$dir/bottle-$$"
        if [[ $controllers == *cpuset* ]]; then
            cat "$dir/cpuset.cpus" >"$dir/bottle-$$/cpuset.cpus"
            cat "$dir/cpuset.mems" >"$dir/bottle-$$/cpuset.mems"
        fi
        echo "$dir/bottle-$$"
    done </proc/self/cgroup
}

if [[ ${1:-} == --inside ]]; then
    shift
    inside "$@"
    exit
fi

mapfile -t mine < <(own_cgroups)
clean_cgroups() {
    local dir try
    for dir in "${mine[@]}"; do
        for try in 1 2 3 4 5 6 7 8 9 10; do # the last processes end in their own time
            find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || true
            [[ -d $dir ]] || break
            sleep 0.1
        done
    done
}
trap clean_cgroups EXIT
(
    for dir in "${mine[@]}"; do echo "$BASHPID" >"$dir/cgroup.procs"; done
    exec unshare --mount --net --pid --uts --ipc --cgroup --fork --kill-child --mount-proc \
        "${BASH_SOURCE[0]}" --inside "$@"
)
