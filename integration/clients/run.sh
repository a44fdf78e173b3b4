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

# build_module MODULE VERSION PACKAGE NAME: builds NAME-VERSION in the module
# itself, so that its own go.sum and replacements hold.
build_module() {
    local out=$CLIENTS/$4-$2 dir tree
    [[ ! -x $out ]] || return 0
    echo "building $4 $2"
    dir=$(cd / && GOFLAGS=-mod=mod go mod download -json "$1@$2" | jq -r .Dir)
    tree=$(mktemp -d)
    cp -r "$dir/." "$tree"
    chmod -R u+w "$tree"
    rm -rf "$tree/vendor"
    (cd "$tree" && GOFLAGS="-mod=mod -buildvcs=false" CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$out" "$3" 2> >(grep -v '^go: downloading' >&2))
    rm -rf "$tree"
}

export CRICTL_VERSION=v1.30.0
build_module sigs.k8s.io/cri-tools $CRICTL_VERSION ./cmd/crictl crictl

clients=("$@")
((${#clients[@]})) || mapfile -t clients < <(cd integration/clients && ls -- *.sh | grep -vxE 'run.sh|lib.sh' | sed 's/\.sh$//')
status=0
for client in "${clients[@]}"; do
    echo "-- $client"
    scripts/bottle.sh "$PWD/integration/clients/$client.sh" || { echo "clients: $client failed" >&2; status=1; }
done
exit "$status"
