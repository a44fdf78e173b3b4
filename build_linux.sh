#!/usr/bin/env bash
# Builds every plugin, the programs of cmd, and cnitool, into bin/: static, stripped, reproducible.
#
#   VERSION=v1.2.3  what VERSION and the plugins' usage text report
#   GOARCH=arm64    cross-builds
#   OUT=dir         another directory than bin
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/setup.sh
need_go

# The version is the nearest tag's, so that it says no more than what was
# released. Before the first tag it is v0.1.0. It has to be a semantic version
# with a leading v: plugins report it behind the version of the reference plugins
# (pkg/cni), which nerdctl and Nomad parse.
version() {
    git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null || echo v0.1.0
}

VERSION=${VERSION:-$(version)}
OUT=${OUT:-bin}
if ! [[ $VERSION =~ ^v[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$ ]]; then
    echo "build: VERSION $VERSION is not a semantic version such as v1.2.3" >&2
    exit 1
fi

mains=()
for main in plugins/*/*/main.go plugins/*/*/*/main.go cmd/*/main.go; do
    [[ -e $main ]] && mains+=("./$(dirname "$main")")
done

export CGO_ENABLED=0 GOOS=linux
flags=(-trimpath -buildvcs=false)
mkdir -p "$OUT"
if ((${#mains[@]})); then
    go build "${flags[@]}" -o "$OUT/" \
        -ldflags "-s -w -buildid= -X github.com/dockyard-cni/dockyard/pkg/cni.Version=$VERSION" \
        "${mains[@]}"
fi
go build "${flags[@]}" -o "$OUT/cnitool" -ldflags "-s -w -buildid=" \
    github.com/containernetworking/cni/cnitool

echo "built $VERSION for linux/$(go env GOARCH):"
for main in "${mains[@]}" cnitool; do
    file=$OUT/$(basename "$main")
    printf '  %-16s %9d bytes\n' "$file" "$(stat -c %s "$file")"
done
