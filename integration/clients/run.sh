#!/usr/bin/env bash
# Tests the plugins with real clients, each on a machine of its own:
#
#   integration/clients/run.sh [CLIENT...]      podman, containerd, ...; without, all that are there
#
# What clients need beside Debian's packages is built once and kept in .cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. scripts/setup.sh
need_tools
need_clients
need_go

export CLIENTS=$PWD/.cache/clients DOCKYARD_BIN=${DOCKYARD_BIN:-$PWD/bin}
mkdir -p "$CLIENTS"
CGO_ENABLED=0 go build -o "$CLIENTS/" ./integration/clients/record ./integration/clients/image
"$CLIENTS/image" "$(type -P busybox)" localhost/busybox:1 "$CLIENTS/busybox.tar"

# build_module MODULE VERSION PACKAGE NAME COMMAND: builds NAME-VERSION in the
# module itself, so that its own go.sum and replacements hold, after a command
# there that puts right what the module's archive lacks.
build_module() {
    local out=$CLIENTS/$4-$2 dir tree
    [[ ! -x $out ]] || return 0
    echo "building $4 $2"
    dir=$(cd / && GOFLAGS=-mod=mod go mod download -json "$1@$2" | jq -r .Dir)
    tree=$(mktemp -d)
    cp -r "$dir/." "$tree"
    chmod -R u+w "$tree"
    rm -rf "$tree/vendor"
    (cd "$tree" && "${@:5}" && GOFLAGS="-mod=mod -buildvcs=false" CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$out" "$3" 2> >(grep -v '^go: downloading' >&2))
    rm -rf "$tree"
}

# without_tigron: helpers of nerdctl's tests need a module that is not published.
without_tigron() {
    rm -f cmd/nerdctl/helpers/testing*.go
    go mod edit -dropreplace github.com/containerd/nerdctl/mod/tigron@v0.0.0 -droprequire github.com/containerd/nerdctl/mod/tigron
}

# with_published_parts: modules that kubernetes keeps in its own tree, and not in
# its archive, are published too, as v0 of the same number.
with_published_parts() {
    rm -f go.work go.work.sum
    sed -i -E "s#=> \./staging/src/(k8s.io/[a-z-]+)#=> \1 v0.${KUBELET_VERSION#v1.}#" go.mod
}

# tools_for CLIENT: builds what the client's test needs.
tools_for() {
    case $1 in
    bench) tools_for containerd2 && tools_for nerdctl ;;
    containerd*) build_module sigs.k8s.io/cri-tools $CRICTL_VERSION ./cmd/crictl crictl true ;;
    nerdctl) build_module github.com/containerd/nerdctl/v2 $NERDCTL_VERSION ./cmd/nerdctl nerdctl without_tigron ;;
    kubelet) build_module k8s.io/kubernetes $KUBELET_VERSION ./cmd/kubelet kubelet with_published_parts ;;
    esac
    case $1 in
    containerd2 | nerdctl)
        build_module github.com/containerd/containerd/v2 $CONTAINERD_VERSION ./cmd/containerd containerd true
        build_module github.com/containerd/containerd/v2 $CONTAINERD_VERSION ./cmd/containerd-shim-runc-v2 containerd-shim-runc-v2 true
        ;;
    esac
}
export CRICTL_VERSION=v1.30.0 NERDCTL_VERSION=v2.3.5 CONTAINERD_VERSION=v2.4.2 KUBELET_VERSION=v1.30.0

clients=("$@")
((${#clients[@]})) || mapfile -t clients < <(cd integration/clients && ls -- *.sh | grep -vxE 'run.sh|lib.sh|bench.sh' | sed 's/\.sh$//')
status=0
for client in "${clients[@]}"; do
    echo "-- $client"
    tools_for "$client"
    scripts/bottle.sh "$PWD/integration/clients/$client.sh" || { echo "clients: $client failed" >&2; status=1; }
done
exit "$status"
