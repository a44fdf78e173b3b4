#!/usr/bin/env bash
# Compares Dockyard with the reference plugins, alternating in one run, and
# prints Markdown. As root; takes less than ten minutes.
#
#   scripts/bench.sh                  everything
#   scripts/bench.sh -quick           few iterations, small numbers: does it work at all
#   scripts/bench.sh -run 'chain|size'   some rows
#   scripts/bench.sh -clients         how long containers take to start, with nerdctl,
#                                     containerd's CRI and podman
#   scripts/bench.sh -docker          overlays beside Docker's, with two dockerds
#
# OURS_BIN names another directory of plugins to take for ours.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup.sh
need_tools
need_modules
need_go

REFERENCE_VERSION=v1.10.0
REFERENCE_PLUGINS=(main/bridge main/loopback main/macvlan main/ipvlan ipam/host-local meta/portmap meta/firewall meta/tuning meta/bandwidth)
FLANNEL_VERSION=v0.28.10
cache=$PWD/.cache
reference=$cache/reference-$REFERENCE_VERSION
flannel=$cache/flannel-$FLANNEL_VERSION
installed=$cache/installed

# unpack module version dir: its source, as a main module of its own, so that it is
# built with the libraries that its go.mod names.
unpack() {
    local source
    source=$(cd / && GOFLAGS=-mod=mod go mod download -json "$1@$2" | jq -r .Dir)
    rm -rf "$3"
    mkdir -p "$3/bin"
    cp -r "$source" "$3/src"
    chmod -R u+w "$3/src"
    rm -rf "$3/src/vendor" # a module's zip holds its modules.txt alone
}

# The reference is built with the linker flags that ours are built with.
build_reference() {
    local plugin
    [[ $(cat "$reference/bin/.complete" 2>/dev/null) != "${REFERENCE_PLUGINS[*]}" ]] || return 0
    echo "building the reference plugins $REFERENCE_VERSION" >&2
    unpack github.com/containernetworking/plugins "$REFERENCE_VERSION" "$reference"
    for plugin in "${REFERENCE_PLUGINS[@]}"; do
        (cd "$reference/src" && CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -buildvcs=false \
            -ldflags "-s -w -X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=$REFERENCE_VERSION" \
            -o "$reference/bin/" "./plugins/$plugin") 2> >(grep -v '^go: downloading' >&2)
    done
    echo "${REFERENCE_PLUGINS[*]}" >"$reference/bin/.complete"
}

# build_flannel builds what overlays are measured against, without two backends that
# are not: udp needs cgo, and of tencentvpc a module is not to be had.
build_flannel() {
    [[ ! -x $flannel/bin/flanneld ]] || return 0
    echo "building flannel $FLANNEL_VERSION" >&2
    unpack github.com/flannel-io/flannel "$FLANNEL_VERSION" "$flannel"
    sed -i -E '/backend\/(udp|tencentvpc)"/d' "$flannel/src/main.go"
    (cd "$flannel/src" && CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -buildvcs=false \
        -ldflags "-s -w -X github.com/flannel-io/flannel/pkg/version.Version=$FLANNEL_VERSION" \
        -o "$flannel/bin/flanneld" .) 2> >(grep -v '^go: downloading' >&2)
}

# install_copies has all programs as cp(1) writes them, as on a host that installed
# them. What the linker writes, by mmap(2), is in the page cache a page at a time
# until it is read from the disk again, and each start takes 0.1 to 0.3 ms longer.
install_copies() {
    rm -rf "$installed"
    mkdir -p "$installed"
    cp -r "$1" "$installed/ours"
    cp -r "$reference/bin" "$installed/reference"
    cp "$cache/empty/empty" "$PWD/bin/cnitool" "$installed/"
}

# unpack_docker fetches Debian's dockerd, without installing it.
unpack_docker() {
    local tmp
    [[ ! -d $cache/docker ]] || return 0
    echo "fetching Debian's docker.io" >&2
    tmp=$(mktemp -d)
    (cd "$tmp" && apt-get -q -o APT::Sandbox::User=root download docker.io tini libdevmapper1.02.1) >/dev/null
    for package in "$tmp"/*.deb; do dpkg-deb -x "$package" "$tmp/root"; done
    mv "$tmp/root" "$cache/docker"
    rm -rf "$tmp"
}

# build_empty builds what start-up is measured against: a Go program that does nothing.
build_empty() {
    mkdir -p "$cache/empty"
    echo 'package main; func main() {}' >"$cache/empty/main.go"
    CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$cache/empty/empty" "$cache/empty/main.go"
}

build_reference
build_flannel
build_empty
./build_linux.sh >&2
ours=${OURS_BIN:-$PWD/bin}
for plugin in bridge host-local portmap macvlan ipvlan dns-hosts; do
    [[ -x $ours/$plugin ]] || { echo "bench: no $plugin in $ours" >&2; exit 1; }
done
install_copies "$ours"
if [[ ${1:-} == -clients ]]; then
    REFERENCE_BIN=$installed/reference DOCKYARD_BIN=$installed/ours exec integration/clients/run.sh bench
fi
CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$cache/bench" ./scripts/bench
in=scripts/sandbox.sh
if [[ ${1:-} == -docker ]]; then
    shift
    need_clients
    unpack_docker
    in=scripts/bottle.sh
    set -- -docker "$cache/docker" -run '^docker$' "$@"
fi
bench=("$cache/bench" -ours "$installed/ours" -reference "$installed/reference" -flanneld "$flannel/bin/flanneld"
    -empty "$installed/empty" -cnitool "$installed/cnitool" "$@")
"$in" "${bench[@]}"

# What the host's kernel lacks is measured under one that has it, where ratios alone count.
pattern=
while (($#)); do
    case $1 in -run | --run) pattern=${2:-} ;; -run=* | --run=*) pattern=${1#*=} ;; esac
    shift
done
if [[ ipvlan =~ $pattern ]] &&
    ! unshare --net sh -c 'ip link add v0 type veth peer name v1 && ip link add link v0 name i0 type ipvlan' 2>/dev/null; then
    need_second_kernel
    scripts/second-kernel.sh "${bench[@]}" -emulated -run '^ipvlan$'
fi
