# What the tests of real clients share. Sourced by each, inside scripts/bottle.sh:
#
#   DOCKYARD_BIN   directory of the plugins under test
#   CLIENTS        directory of the tools that run.sh has built
#   UPDATE=1       writes the golden file instead of comparing it
#
# A client's plugins are in /opt/cni/bin, each behind a recorder.

client=$(basename "$0" .sh)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
plugins=/opt/cni/bin
failures=0

# step says what comes next, with the seconds that have passed.
step() { printf '%3d s  %s\n' "$SECONDS" "$*"; }

fail() {
    echo "FAIL: $*" >&2
    failures=$((failures + 1))
}

# need command...: fails the whole test if the command fails.
need() {
    local out
    if ! out=$("$@" 2>&1); then
        echo "$out" >&2
        echo "FAIL: $*" >&2
        exit 1
    fi
    [[ -z $out ]] || last=$out
}

# wants pattern command...: the command's output must match, in one of so many
# tries, five a second: servers in containers take a moment, a busy machine more.
patience=300
wants() {
    local pattern=$1 out="" try
    shift
    for try in $(seq "$patience"); do
        out=$("$@" 2>&1) && [[ $out =~ $pattern ]] && return 0
        sleep 0.2
    done
    fail "$* (try $try): $out; want a match for $pattern"
}

# refuses command...: the command must fail.
refuses() {
    local out
    ! out=$("$@" 2>&1) || fail "$*: succeeded: $out"
}

fetch() { curl -s -m 2 "$1"; }

# install_plugins puts the plugins behind recorders.
install_plugins() {
    local p
    mkdir -p "$plugins/real"
    for p in "$DOCKYARD_BIN"/*; do
        [[ $(basename "$p") != cnitool ]] || continue
        cp "$p" "$plugins/real/"
        cp "$CLIENTS/record" "$plugins/$(basename "$p")"
    done
    : >"$plugins/real/calls"
}

# calls compares what the client has sent with golden/CLIENT.txt: a change of a
# client's habits shall be noticed.
calls() {
    local golden=$here/golden/$client.txt
    if [[ -n ${UPDATE:-} ]]; then
        sort -u "$plugins/real/calls" >"$golden"
    elif ! diff -u "$golden" <(sort -u "$plugins/real/calls"); then
        fail "$client sends something else than $golden says; UPDATE=1 accepts it"
    fi
}

# use_containerd2 puts the containerd that run.sh has built before Debian's.
use_containerd2() {
    mkdir -p /run/bin
    ln -s "$CLIENTS/containerd-$CONTAINERD_VERSION" /run/bin/containerd
    ln -s "$CLIENTS/containerd-shim-runc-v2-$CONTAINERD_VERSION" /run/bin/containerd-shim-runc-v2
    PATH=/run/bin:$PATH
}

# containerd_config VERSION: one for Debian's containerd, 1, or for 2, whose pods
# have our only image. Not every machine lets root lower oom_score_adj.
containerd_config() {
    local sandbox='[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/busybox:1"'
    if [[ $1 == 2 ]]; then
        sandbox='[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "localhost/busybox:1"
[plugins."io.containerd.cri.v1.runtime"]'
    fi
    cat <<CONF
version = $(($1 + 1))
[grpc]
  address = "/run/containerd/containerd.sock"
$sandbox
  disable_apparmor = true
  restrict_oom_score_adj = true
CONF
}

# podman_config lets podman use CNI, and run where root cannot do everything.
podman_config() {
    cat >/etc/containers/containers.conf <<CONF
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:8192"]
[network]
network_backend = "cni"
cni_plugin_dirs = ["$plugins"]
network_config_dir = "/etc/cni/net.d"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
CONF
    printf '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n' >/etc/containers/storage.conf
    echo '{"default": [{"type": "insecureAcceptAnything"}]}' >/etc/containers/policy.json
}

# names_daemon starts the daemon of dns-hosts; $names is its process.
names_daemon() {
    "$plugins/real/dns-hosts" daemon 2>/run/names.log &
    names=$!
    wants CONTAINER "$plugins/real/dns-hosts" status
}

# traces prints what belongs to attachments: links, rules and elements by their
# marks (those of what a network shares begin with "*"), leases, saved values, records of names, namespaces.
traces() {
    ip -o link | sed -nE 's/^[0-9]+: ([^:@]+).*alias ([^* ][^ ]*\/[^ ]+\/.*)/link \1 \2/p'
    ip -o link show type veth
    nft list ruleset 2>/dev/null | grep -oE '"[^*" ][^" ]*/[^" /]+/[^" /]+"' | sort -u || true
    iptables-save 2>/dev/null | grep -oE -- '--comment "?[^*" ][^" ]*/[^" /]+/[^" /]+' || true
    find /run/cni/tuning /run/dockyard -type f ! -name '*.lock' ! -name lock 2>/dev/null || true
    find /run/dockyard/dns/containers -mindepth 1 2>/dev/null || true
    find /var/lib/cni/networks -type f ! -name lock ! -name 'last_reserved_ip.*' ! -path '*/.dockyard/*' 2>/dev/null || true
    find /run/netns -mindepth 1 2>/dev/null || true
}

# nothing_left fails for what containers that are gone have left.
nothing_left() {
    local left try
    for try in $(seq "$patience"); do
        left=$(traces)
        [[ -n $left ]] || return 0
        sleep 0.2
    done
    fail "left behind (try $try): $left"
}

finish() {
    calls
    nothing_left
    if ((failures)); then
        echo "$client: $failures failures" >&2
        exit 1
    fi
    step "$client: passed"
}
