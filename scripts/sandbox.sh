#!/usr/bin/env bash
# Runs a command where it can do the host no harm, and fails if it leaves
# anything behind: links, namespaces, firewall rules, processes, state files.
#
#   scripts/sandbox.sh go test ./...
#
# The command sees the host's files but has network, mount and process
# namespaces of its own, an empty /run and an empty /var/lib/cni. Nothing in it
# reaches the network, so what it needs has to be there already.
set -euo pipefail

# traces prints everything that a test can leave behind. lo is left out, as some
# need it up and some leave it down; lock files are meant to stay.
traces() {
    ip -o link | sed -e 's/^[0-9]*: //' -e '/^lo:/d'
    ip netns list
    nft list ruleset
    find /run /var/lib/cni /etc/netns -type f ! -name '*lock' | sort
    processes
}

# processes prints what runs here beside this script. The go command's own
# helpers may outlive it for a moment, so what is going to end gets a second.
processes() {
    local tries list
    for tries in 1 2 3 4 5; do
        list=$(ps -e -o pid=,stat=,args= | awk -v self=$$ \
            '$1 != self && $2 !~ /Z/ && $3 != "ps" && $3 != "awk" && $0 !~ /scripts\/sandbox\.sh --inside/ { $1 = ""; $2 = ""; print "process:" $0 }')
        [[ -n $list && $tries -lt 5 ]] || break
        sleep 0.2
    done
    [[ -z $list ]] || echo "$list"
}

inside() {
    mount --make-rprivate /
    mount -t sysfs sysfs /sys # of the new network namespace
    mount -t tmpfs tmpfs /run
    mkdir -p /var/lib/cni /etc/netns
    mount -t tmpfs tmpfs /var/lib/cni
    mount -t tmpfs tmpfs /etc/netns
    ip link set lo up
    # Tests write and sync many small files; what is built is too large for memory.
    mount -t tmpfs tmpfs /var/tmp
    export TMPDIR=/var/tmp GOTMPDIR=${GOTMPDIR:-${TMPDIR:-/tmp}}

    local before after status=0
    before=$(traces)
    "$@" || status=$?
    after=$(traces)
    if [[ $before != "$after" ]]; then
        echo "sandbox: ${*:1:2} ... left behind (+) or took away (-):" >&2
        diff -U0 <(echo "$before") <(echo "$after") | sed -e 1,3d -e '/^[-+]$/d' >&2 || true
        ((status)) || status=1
    fi
    return "$status"
}

if [[ ${1:-} == --inside ]]; then
    shift
    inside "$@"
else
    exec unshare --mount --net --pid --fork --kill-child --mount-proc "${BASH_SOURCE[0]}" --inside "$@"
fi
