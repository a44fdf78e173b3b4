#!/usr/bin/env bash
# Builds everything and runs the tests, on a fresh Debian 12 as root, in tiers:
#
#   scripts/test.sh -quick   packages, golden plans, contract cases, and the laws over
#                            three examples: while one works on something
#   scripts/test.sh          all but what -all adds: before a change lands
#   scripts/test.sh -all     with each system call of the laws, the race detector
#                            everywhere, and real Kubernetes: before a release. The
#                            result goes into TESTED.md.
#   scripts/test.sh -run TestBridge
#                            other arguments go to go test, of all packages
#
# Tests run in a sandbox (scripts/sandbox.sh), so the host's network is never
# touched. What the host's kernel was built without is tested under a second one
# (scripts/second-kernel.sh). With CI=true a skipped test is a failed one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup.sh

tier=default
case ${1:-} in
-quick | -all) tier=${1#-}; shift ;;
esac
((EUID == 0)) || { echo "test: needs root, for network namespaces" >&2; exit 1; }

# Clients that only -all has; TESTED.md says why.
only_all=(kubelet)

tmp=$(mktemp -d)
left=$tmp/left results=$tmp/results table=$tmp/table
touch "$left" "$results"
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$tmp"' EXIT
failed=0

# phase NAME COMMAND...: runs a part, and enters into the table how long it took.
phase() {
    local name=$1 start=$SECONDS outcome=ok
    shift
    printf '\n== %s\n' "$name"
    "$@" || outcome=FAILED failed=1
    printf '%-28s %6d s   %s\n' "$name" $((SECONDS - start)) "$outcome" | tee -a "$table"
}

# beside NAME COMMAND...: the same beside the phases that follow; what it says comes
# when join waits for it.
beside() {
    local name=$1 out=$tmp/${1// /-}
    shift
    { (
        start=$SECONDS outcome=ok
        "$@" >"$out" 2>&1 || outcome=FAILED
        printf '%-28s %6d s   %s\n' "$name" $((SECONDS - start)) "$outcome" >"$out.took"
        [[ $outcome == ok ]]
    ) & }
    running[$name]=$!
}
declare -A running

join() {
    local name=$1 out=$tmp/${1// /-}
    printf '\n== %s, beside the last\n' "$name"
    wait "${running[$name]}" || failed=1
    cat "$out"
    tee -a "$table" <"$out.took"
}

# run_tests arguments...: go test in the sandbox, a line per package, what failed
# in full. Events are kept for the summary. No test is given less time than all
# have together, as a busy machine takes its time with any.
run_tests() {
    local status=0 events
    events=$(mktemp -p "$tmp")
    DOCKYARD_LEAVE=$left scripts/sandbox.sh go test -json -count=1 -timeout=90m "$@" | tee "$events" |
        jq --unbuffered -Rrj 'fromjson? // {Action: "output", Output: (. + "\n")}
            | select(.Action == "build-output" or (.Action == "output" and .Test == null)) | .Output' |
        grep --line-buffered -vE '^(PASS|FAIL|coverage: .*)$|no test files' || status=1
    show_failures "$events"
    cat "$events" >>"$results"
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

# below prints the directories of all packages but integration.
below() { go list -f '.{{slice .Dir (len .Module.Dir)}}' ./... | grep -vx ./integration; }

# concurrent prints the packages that start goroutines or are made for several: those
# that the race detector, with which all takes several times as long, can find
# something in.
concurrent() {
    below | while read -r dir; do
        ! grep -qE '^\s*go (func\b|[a-zA-Z_.]+\()|\.Go\(|sync\.(RW)?Mutex|atomic\.' --exclude='*_test.go' "$dir"/*.go || echo "$dir"
    done
}

# packages: the tests of all packages but integration. Contract cases are tested
# without the race detector.
packages() {
    local raced=() all=() status=0
    mapfile -t all < <(below)
    if [[ $tier != quick ]] && type -P gcc >/dev/null; then
        mapfile -t raced < <(if [[ $tier == all ]]; then below; else concurrent; fi)
        run_tests -p=4 -race -skip '^TestContract$' "${raced[@]}" || status=1
        mapfile -t all < <(printf '%s\n' "${all[@]}" | grep -vxFf <(printf '%s\n' "${raced[@]}"))
    fi
    ((!${#all[@]})) || run_tests -p=4 -skip '^TestContract$' "${all[@]}" || status=1
    return "$status"
}

contract() {
    local some
    mapfile -t some < <(find pkg -name contract_test.go -printf './%h\n')
    run_tests -p=4 -run '^TestContracts?$' "${some[@]}" ./integration
}

# under_second_kernel pattern [-v]: those left whose names match, or do not. Contract
# cases, contract/DIRECTORY/TYPE, are run by their packages, one at a time.
under_second_kernel() {
    local some mine
    mine=$(mktemp -p "$tmp")
    sort -u "$left" | grep "${@:2}" -e "$1" >"$mine" || return 0
    sed 's/^/    /' "$mine"
    mapfile -t some < <(sed -n -e 's#^contract/\(.*\)/.*#./\1#p' -e '/^contract/!s#.*#./integration#p' "$mine" | sort -u)
    DOCKYARD_LEFT=$mine run_tests -p=1 -exec "$PWD/scripts/second-kernel.sh" -run '^(TestContract|TestScript|TestLaws)$' "${some[@]}"
}

only_iptables() {
    KERNEL_PREPARE="echo 'install nf_tables /bin/false' >/etc/modprobe.d/without.conf
    for c in iptables ip6tables iptables-save ip6tables-save iptables-restore ip6tables-restore; do
        ln -sf \${c%%tables*}tables-legacy\${c#*tables} /usr/sbin/\$c
    done" under_second_kernel '^only-iptables/'
}

systemd() { KERNEL_INIT=/lib/systemd/systemd scripts/second-kernel.sh integration/systemd.sh; }

clients() {
    local some
    mapfile -t some < <(cd integration/clients && ls -- *.sh | grep -vxE 'run.sh|lib.sh|bench.sh' | sed 's/\.sh$//')
    if [[ $tier != all ]]; then
        mapfile -t some < <(printf '%s\n' "${some[@]}" | grep -vxFf <(printf '%s\n' "${only_all[@]}"))
    fi
    integration/clients/run.sh "${some[@]}"
}

setup() {
    need_tools && need_modules && need_go && { [[ $tier == quick ]] || need_second_kernel; } && go version
}

phase set-up setup
((failed)) || phase build ./build_linux.sh
((!failed)) || exit 1
export DOCKYARD_BIN=$PWD/bin

if (($#)); then
    phase "go test $*" run_tests -p=1 "$@" ./...
elif [[ $tier == quick ]]; then
    phase packages packages
    phase contract contract
    phase "laws, three examples" run_tests -short -run '^TestLaws$' ./integration
else
    [[ $tier != all ]] || export LAWS_EVERY_CALL=1
    phase packages packages
    phase contract contract
    # One after the other: these use both CPUs, and measure.
    phase laws run_tests -run '^TestLaws$' ./integration
    phase scenarios run_tests -skip '^(TestLaws|TestContracts)$' ./integration
    # These wait more than they compute; of the benchmark, that it runs is all that is
    # asked here.
    beside clients clients
    beside benchmark scripts/bench.sh -quick
fi
if [[ $tier != quick ]]; then
    phase "second kernel" under_second_kernel '^only-iptables/' -v
    phase "without nf_tables" only_iptables
fi
if [[ $tier != quick ]] && ((!$#)); then
    phase "daemons under systemd" systemd
    join benchmark
    join clients
fi

printf '\n== result\n'
cat "$table"
fails=$(count fail) skips=$(count skip)
if ((failed && fails == 0)); then fails=1; fi # what does not build, or a trace left behind
if [[ ${CI:-} == true ]] && ((skips)); then
    echo "test: $skips tests were skipped, which CI does not allow" >&2
    failed=1
fi
summary="$(count pass) passed, $fails failed, $skips skipped"
if [[ $tier == quick ]] && [[ -s $left ]]; then
    echo "left to scripts/test.sh, as this kernel cannot: $(sort -u "$left" | wc -l) tests"
fi
echo "took $SECONDS s"
echo "$summary"
if [[ $tier == all ]]; then
    commit=$(git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)
    printf '| %(%Y-%m-%d)T | `%s` | %s | %d min |\n' -1 "$commit" "$summary" $(((SECONDS + 59) / 60)) >>TESTED.md
fi
exit "$failed"
