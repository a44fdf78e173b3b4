#!/usr/bin/env bash
# What a fresh Debian 12 lacks for building and testing: packages by name, and
# Go. Sourced, it only defines functions; run, it installs everything:
#
#   need_go        go on PATH, at least as new as go.mod asks for
#   need_tools     the commands that tests, demo and benchmark call
#   need_clients   container runtimes, for integration/clients
#   need_modules   kernel modules, where the kernel has modules at all
#   need_second_kernel   what scripts/second-kernel.sh starts
#
# Each is silent and quick when there is nothing to do.

GO_BOOTSTRAP_VERSION=go1.26.8 # fetched when the machine has no Go that will do

# command -> Debian package.
declare -A DEBIAN_PACKAGE=(
    [ip]=iproute2 [iptables]=iptables [nft]=nftables [conntrack]=conntrack
    [strace]=strace [curl]=curl [busybox]=busybox-static [socat]=socat
    [tcpdump]=tcpdump [ping]=iputils-ping [arping]=iputils-arping
    [ethtool]=ethtool [jq]=jq [ps]=procps [modprobe]=kmod [git]=git
    [unshare]=util-linux [gcc]=gcc [etcd]=etcd-server [iperf3]=iperf3
    [dig]=bind9-dnsutils [dnsperf]=dnsperf [dnsmasq]=dnsmasq-base [musl-gcc]=musl-tools
    [firewall-cmd]=firewalld [systemctl]=systemd
)

need_tools() {
    local command missing=()
    for command in "${!DEBIAN_PACKAGE[@]}"; do
        PATH=$PATH:/usr/sbin:/sbin type -P "$command" >/dev/null || missing+=("${DEBIAN_PACKAGE[$command]}")
    done
    [[ " ${missing[*]} " != *" gcc "* ]] || missing+=(libc6-dev) # headers, for the race detector
    apt_install "${missing[@]}"
    case :$PATH: in *:/usr/sbin:*) ;; *) export PATH=$PATH:/usr/sbin:/sbin ;; esac
}

# need_clients installs the runtimes that Debian has.
need_clients() {
    local command missing=()
    for command in podman containerd runc conmon; do
        type -P "$command" >/dev/null || missing+=("$command")
    done
    apt_install "${missing[@]}"
}

# apt_install package...: says what it installs, and apt's own words on failure
# only. Services neither start nor are enabled: tests want programs, and a firewall
# or a database is not for them to give to a machine.
apt_install() {
    (($#)) || return 0
    local log policy=/usr/sbin/policy-rc.d status=0
    log=$(mktemp)
    echo "installing: $*"
    if [[ -e $policy ]]; then
        policy=
    else
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    { apt-get update && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1 || status=1
    [[ -z $policy ]] || rm -f "$policy"
    if ((status)); then
        cat "$log" >&2
        echo "setup: apt-get install $*: failed" >&2
    elif type -P systemctl >/dev/null; then
        dpkg -L "$@" | sed -n 's#^/lib/systemd/system/\([^/@]*\.\(service\|socket\|timer\)\)$#\1#p' |
            xargs -r systemctl --quiet disable >>"$log" 2>&1 || true # those that cannot be enabled
    fi
    rm -f "$log"
    return "$status"
}

# A kernel without modules has everything built in, or will never have it: the
# tests then say what is missing.
need_modules() {
    local module
    for module in veth bridge br_netfilter nf_tables nft_masq nft_nat nf_conntrack \
        iptable_nat ip6table_nat 8021q macvlan ipvlan vxlan; do
        modprobe -q "$module" 2>/dev/null || true
    done
}

# second_kernel prints where Debian's kernel for clouds is unpacked: the last of
# bookworm, in .cache.
second_kernel() {
    echo "$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.cache/second-kernel"
}

# need_second_kernel unpacks the kernel, without installing it, and installs the
# emulator.
need_second_kernel() {
    local dir image tmp missing=()
    dir=$(second_kernel)
    type -P qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
    type -P busybox >/dev/null || missing+=(busybox-static)
    apt_install "${missing[@]}"
    [[ ! -d $dir ]] || return 0
    echo "fetching Debian's kernel"
    tmp=$(mktemp -d)
    image=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: //p')
    (cd "$tmp" && apt-get -q -o APT::Sandbox::User=root download "$image") >/dev/null || return 1
    dpkg-deb -x "$tmp"/*.deb "$tmp/root"
    depmod -b "$tmp/root" "$(ls "$tmp/root/lib/modules")"
    mkdir -p "${dir%/*}"
    mv "$tmp/root" "$dir" || return 1
    rm -rf "$tmp"
}

# go_at_least 1.26: whether go is on PATH and that new.
go_at_least() {
    local have
    have=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
    [[ $(printf '%s\n' "$1" "${have#go}" | sort -V | head -n1) == "$1" ]]
}

# need_go takes the Go on PATH if it will do, else Debian's, which is too old for
# the module but can fetch a newer one as the module golang.org/toolchain. (From
# 1.21 on go does that by itself; 1.19 has to be told.)
need_go() {
    local want root
    want=$(sed -n 's/^go //p' "$(dirname "${BASH_SOURCE[0]}")/../go.mod")
    for root in "" /usr/local/go/bin /usr/lib/go/bin; do
        [[ -z $root || -x $root/go ]] || continue
        PATH=${root:+$root:}$PATH go_at_least "$want" || continue
        export PATH=${root:+$root:}$PATH
        return 0
    done
    type -P go >/dev/null || apt_install golang-go ca-certificates
    root=$(fetch_go) || { echo "setup: go: no toolchain $GO_BOOTSTRAP_VERSION to be had" >&2; return 1; }
    export PATH=$root/bin:$PATH GOTOOLCHAIN=local
    go_at_least "$want" || { echo "setup: go: $GO_BOOTSTRAP_VERSION is older than go.mod's $want" >&2; return 1; }
}

# fetch_go prints the root of GO_BOOTSTRAP_VERSION in the module cache. Old go
# marks no file there executable, as a module has no use for it.
fetch_go() {
    local arch root module
    arch=$(dpkg --print-architecture)
    [[ $arch != armhf ]] || arch=arm
    module=golang.org/toolchain@v0.0.1-$GO_BOOTSTRAP_VERSION.linux-$arch
    root=$(go env GOMODCACHE)/$module
    if ! [[ -x $root/bin/go ]]; then
        echo "fetching $GO_BOOTSTRAP_VERSION" >&2
        (cd / && GOTOOLCHAIN=local GOFLAGS=-mod=mod go mod download "$module") >&2 || return 1
        chmod -R u+w "$root" || return 1
        chmod +x "$root"/bin/* "$root"/pkg/tool/*/* || return 1
    fi
    echo "$root"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    set -euo pipefail
    need_tools
    need_modules
    need_go
    go version
fi
