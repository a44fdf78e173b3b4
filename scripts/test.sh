#!/usr/bin/env bash
# Everything that has to hold before a change lands: format, vet, lint, build and
# all tests, on a fresh Debian 12 as root. Arguments go to go test:
#
#   scripts/test.sh -run TestBridge
#
# Tests run in a sandbox (scripts/sandbox.sh), so the host's network is never
# touched. What the host's kernel was built without is tested under a second one
# (scripts/second-kernel.sh). With CI=true a skipped test is a failed one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup.sh

current=""
phase() {
    current=$1
    printf '\n== %s (%d s)\n' "$current" "$SECONDS"
}

results=$(mktemp) left=$(mktemp) bench=$(mktemp)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -f "$results" "$left" "$left.part" "$bench"' EXIT

# run_tests arguments...: go test in the sandbox, a line per package, what failed
# in full. Events are kept for the summary.
run_tests() {
    local status=0 events
    events=$(mktemp)
    scripts/sandbox.sh go test -json -count=1 -timeout=30m "$@" | tee "$events" |
        jq --unbuffered -Rrj 'fromjson? // {Action: "output", Output: (. + "\n")}
            | select(.Action == "build-output" or (.Action == "output" and .Test == null)) | .Output' |
        grep --line-buffered -vxE 'PASS|FAIL' || status=1
    show_failures "$events"
    cat "$events" >>"$results"
    rm -f "$events"
    return "$status"
}

# show_failures events: the output of each failed test, and the names of skipped ones.
show_failures() {
    jq -Rsrj '[split("\n")[] | fromjson? | select(.Test != null)] | group_by([.Package, .Test])[]
        | (map(.Action) | if any(. == "fail") then "fail" elif any(. == "skip") then "skip" else "" end) as $outcome
        | select($outcome != "") | map(select(.Action == "output") | .Output) | join("")' "$1"
}

count() {
    jq -Rr --arg action "$1" 'fromjson? | select(.Test != null and .Action == $action) | .Test' "$results" | wc -l
}

phase set-up
((EUID == 0)) || { echo "test: needs root, for network namespaces" >&2; exit 1; }
need_tools
need_modules
need_go
need_second_kernel
go version

failed=0
phase lint
scripts/lint.sh || failed=1

phase build
./build_linux.sh
export DOCKYARD_BIN=$PWD/bin

race=()
if type -P gcc >/dev/null; then race=(-race); fi
mapfile -t libraries < <(go list ./pkg/... ./integration/testnet/...)
mapfile -t rest < <(go list ./... | grep -v -e '/pkg/' -e '/integration/testnet')

phase "packages ${race[*]}"
DOCKYARD_LEAVE=$left run_tests "${race[@]}" "$@" "${libraries[@]}" || failed=1

# One package at a time: these measure, and share the kernel's module state.
phase "plugins and integration"
DOCKYARD_LEAVE=$left run_tests -p=1 "$@" "${rest[@]}" || failed=1

# second_kernel_tests pattern [-v]: those left whose names match, or do not. Contract
# cases, contract/DIRECTORY/TYPE, are run by their packages, one at a time.
second_kernel_tests() {
    local packages
    grep "${@:2}" -e "$1" "$left" >"$left.part" || return 0
    sed 's/^/    /' "$left.part"
    mapfile -t packages < <(sed -n -e 's#^contract/\(.*\)/.*#./\1#p' -e '/^contract/!s#.*#./integration#p' "$left.part" | sort -u)
    DOCKYARD_LEFT=$left.part run_tests -p=1 -exec "$PWD/scripts/second-kernel.sh" -run 'TestContract$|TestScript|TestLaws' "${packages[@]}" || failed=1
}

phase "under the second kernel"
second_kernel_tests '^only-iptables/' -v

# What follows waits more than it computes, so the benchmark runs beside it: all
# that is asked of it here is that it does.
if (($# == 0)); then
    scripts/bench.sh -quick >"$bench" 2>&1 &
    benchmark=$!
fi

phase "without nf_tables"
KERNEL_PREPARE="echo 'install nf_tables /bin/false' >/etc/modprobe.d/without.conf
    for c in iptables ip6tables iptables-save ip6tables-save iptables-restore ip6tables-restore; do
        ln -sf \${c%%tables*}tables-legacy\${c#*tables} /usr/sbin/\$c
    done" second_kernel_tests '^only-iptables/'

if (($# == 0)); then
    phase "daemons under systemd"
    KERNEL_INIT=/lib/systemd/systemd scripts/second-kernel.sh integration/systemd.sh || failed=1

    phase clients
    integration/clients/run.sh || failed=1

    phase benchmark
    wait "$benchmark" || failed=1
    cat "$bench"
fi

phase result
fails=$(count fail) skips=$(count skip)
if ((failed && fails == 0)); then fails=1; fi # lint, a package that does not build, or a trace left behind
if [[ ${CI:-} == true ]] && ((skips)); then
    echo "test: $skips tests were skipped, which CI does not allow" >&2
    failed=1
fi
echo "took $SECONDS s"
echo "$(count pass) passed, $fails failed, $skips skipped"
exit "$failed"
