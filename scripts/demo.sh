#!/usr/bin/env bash
# Shows networks at work: made, used, changed and removed with the program dockyard
# while containers run, and nothing left at the end. As root. With a file it shows
# that network, by cnitool: two containers, an HTTP server, a published port, a second
# network with names that comes and goes.
#
#   scripts/demo.sh
#   scripts/demo.sh conf-examples/bridge.conflist
#   scripts/demo.sh conf-examples/bridge-dual-stack.conflist
#   scripts/demo.sh /etc/cni/net.d/mine.conflist
#
# All of it happens in network and mount namespaces of its own, so a real
# docker0, /etc/cni and /var/lib/cni are never touched.
set -euo pipefail
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

outside() {
    local conflist=${1:-} log
    [[ -z $conflist || -e $conflist ]] || { echo "demo: $conflist: no such file" >&2; exit 1; }
    [[ -z $conflist ]] || conflist=$(realpath "$conflist")
    ((EUID == 0)) || { echo "demo: needs root, for network namespaces" >&2; exit 1; }
    cd "$root"
    . scripts/setup.sh
    echo "Setting up: tools, Go, and the plugins (bin/)"
    need_tools
    need_modules
    need_go
    log=$(mktemp)
    ./build_linux.sh >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; echo "demo: the build failed" >&2; exit 1; }
    rm -f "$log"
    # The sandbox looks by itself whether anything is left behind.
    exec scripts/sandbox.sh scripts/demo.sh --inside "$conflist"
}

# --- from here on inside the sandbox

attached=() # "machine interface network", in the order of ADD

# cnitool VERB MACHINE INTERFACE NETWORK [capability arguments]
cnitool() {
    CNI_PATH=$PWD/bin:/opt/cni/bin NETCONFPATH=/run/demo/net.d CNI_IFNAME=$3 CAP_ARGS=${5:-} \
        timeout 30 bin/cnitool "$1" "$4" "/run/netns/$2"
}

attach() {
    attached+=("$1 $2 $3")
    cnitool add "$@" >/run/demo/result.json 2>/run/demo/error ||
        fail "ADD of $1 to network $3: $(cat /run/demo/error)"
    cnitool check "$@" 2>/run/demo/error || fail "CHECK of $1 on network $3: $(cat /run/demo/error)"
    ok "$1 is attached to $3, and CHECK agrees"
    describe "$4"
}

detach() {
    cnitool del "$1" "$2" "$3" 2>/run/demo/error || fail "DEL of $1 from network $3: $(cat /run/demo/error)"
    local i
    for i in "${!attached[@]}"; do
        [[ ${attached[i]} != "$1 $2 $3" ]] || unset "attached[i]"
    done
}

# describe CAPABILITIES: the result of the last ADD, for people.
describe() {
    jq -r --argjson capabilities "${1:-null}" '
        (.interfaces // []) as $links | ([$links | to_entries[] | select(.value.sandbox) | .key] | first) as $own |
        (.ips[]? | select(.interface == null or .interface == $own)
            | "address    \(.address)" + (if .gateway then ", gateway \(.gateway)" else ", no gateway" end)),
        (.routes[]? | "route      \(.dst)" + (if .gw then " via \(.gw)" else "" end)),
        ($links[$own // empty] | "interface  \(.name), MAC \(.mac)" + (if .mtu then ", MTU \(.mtu)" else "" end)),
        ([$links[] | select(.sandbox | not) | .name] | select(length > 0) | "on host    " + join(", ")),
        ($capabilities.portMappings[]? | "port       \(.hostPort)/\(.protocol) of the host → \(.containerPort)")
    ' /run/demo/result.json | while IFS= read -r line; do say "$line"; done
}

addresses() { jq -r '.ips[]?.address | select(test("^(127\\.|::1/)") | not) | sub("/.*"; "")' /run/demo/result.json; }

# read_conflist FILE copies a configuration to where cnitool looks for it, with
# leases in the default place, which the sandbox hides, and prints its name.
read_conflist() {
    local name
    jq 'del(.ipam.dataDir?, .plugins[]?.ipam.dataDir?)' "$1" >"/run/demo/net.d/$(basename "$1")" ||
        fail "$1 is not JSON"
    name=$(jq -r '.name // empty' "$1")
    [[ -n $name ]] || fail "$1 has no name"
    echo "$name"
}

# plugin TYPE KEY DEFAULT: what the demonstrated network's configuration says.
plugin() {
    jq -r --arg type "$1" --arg key "$2" --arg default "$3" \
        '[(.plugins // [.])[] | select(.type == $type) | .[$key] | select(. != null)] + [$default] | first' "$conflist"
}

# mode ADDRESS: the gateway mode of its family.
mode() {
    local family=IPv4
    [[ $1 != *:* ]] || family=IPv6
    plugin bridge "gatewayMode$family" "$(plugin bridge gatewayMode "")"
}

host_of() { [[ $1 == *:* ]] && echo $HOST6 || echo $HOST; }
lan_of() { [[ $1 == *:* ]] && echo $LAN6 || echo $LAN; }

talk_to_peers() {
    if [[ $(plugin bridge icc true) == true && $(plugin bridge portIsolation false) == false ]]; then
        reaches client "$1" 80 "from container to container"
    else
        refused client "$1" 80 "icc: false keeps containers apart"
    fi
}

talk_internal() {
    if [[ $(mode "$1") == isolated ]]; then
        refused host "$1" 80 "isolated: not even this host"
    else
        reaches host "$1" 80 "this host, by the container's address"
    fi
    refused lan "$1" 80 "internal: no way in"
    refused web "$(lan_of "$1")" 80 "internal: no way out"
}

talk_outside() {
    case $(mode "$1") in
    nat) refused lan "$1" 80 "nat: from outside, only published ports" ;;
    routed)
        if $publishes; then reaches lan "$1" 80 "routed: published ports answer at the container's own address"; fi
        refused lan "$1" 8000 "routed: port 8000 is not published"
        ;;
    *) reaches lan "$1" 80 "no gatewayMode that protects: open, as with the reference plugin" ;;
    esac
    reaches web "$(lan_of "$1")" 80 "out to the LAN"
}

talk_published() {
    local host
    host=$(host_of "$1")
    [[ $1 == *:* ]] || reaches host 127.0.0.1 8080 "published port, from this host"
    reaches host "$host" 8080 "published port, from this host"
    reaches lan "$host" 8080 "published port, from a machine of the LAN"
    reaches client "$host" 8080 "published port, from another container"
    if [[ $(plugin bridge hairpinMode false) == true ]]; then
        reaches web "$host" 8080 "published port, from the container itself"
    fi
}

# leave_nothing BEFORE: of what the attachments made nothing may be there any
# more; what networks share is named and then taken away.
leave_nothing() {
    local before=$1 after left
    after=$(host_traces)
    left=$(comm -13 <(echo "$before") <(echo "$after"))
    if grep -E 'cnitool-|link veth' <<<"$left" >&2; then fail "the above is left of the containers"; fi
    ok "no link, lease, firewall element or rule bears the mark of a container"
    if [[ -z $left ]]; then ok "the host is as it was before"; return; fi
    say "What containers of a network share stays, for the next one:"
    while IFS= read -r line; do say "  $line"; done < <(shared <<<"$left")
    remove_shared "$left"
    after=$(host_traces)
    [[ $after == "$before" ]] || fail "the host is not as before: $(diff <(echo "$before") <(echo "$after"))"
    ok "taken away by the demo, so that the host is as it was before"
}

# remove_shared LINES takes away what traces named. Addresses go with their link,
# a link perhaps with another.
remove_shared() {
    local what name rest
    while read -r what name rest; do
        case $what in
        link) ip link del "$name" 2>/dev/null || true ;;
        table) nft delete table "$name" "$rest" ;;
        file) rm -f "$name" ;;
        sysctl) sysctl -q -w "$name=0" ;;
        esac
    done <<<"$1"
}

cleanup() {
    local status=$? it
    trap '' INT TERM
    case $status in
    0) ;;
    130 | 143) printf '\nInterrupted in: %s. Cleaning up.\n' "$doing" >&2 ;;
    *) printf '\nFailed in: %s. Cleaning up.\n' "$doing" >&2 ;;
    esac
    stop_servers
    stop_names
    for it in "${attached[@]}"; do
        # shellcheck disable=SC2086 # three words
        cnitool del $it 2>/dev/null || true
    done
    for it in web client db lan; do ip netns del "$it" 2>/dev/null || true; done
    ip link del lan0 2>/dev/null || true
    if [[ -n ${before:-} ]]; then remove_shared "$(comm -13 <(echo "$before") <(host_traces))"; fi
    rm -rf /run/demo
    exit "$status"
}

inside() {
    conflist=$1 doing="set-up" before=""
    cd "$root"
    . scripts/demo/host.sh
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkdir -p /run/demo/net.d
    if [[ -z $conflist ]]; then
        . scripts/demo/story.sh
        told
        return
    fi
    local network second second_file capabilities='{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}'
    network=$(read_conflist "$conflist")
    second_file=conf-examples/bridge-dns.conflist
    if [[ $(jq -r .name $second_file) == "$network" ]]; then second_file=conf-examples/bridge.conflist; fi
    second=$(read_conflist $second_file)
    if [[ -e ${conflist%.conflist}.args.json ]]; then capabilities=$(cat "${conflist%.conflist}.args.json"); fi
    named=false publishes=false
    if [[ $(jq '[.plugins[].type] | index("dns-hosts")' $second_file) != null ]]; then named=true; fi
    if [[ $(plugin portmap capabilities '{}' | jq '.portMappings == true') == true ]] &&
        jq -e 'any(.portMappings[]?; .hostPort == 8080 and .containerPort == 80)' <<<"$capabilities" >/dev/null; then
        publishes=true
    fi
    story
}

story() {
    step "A host, a LAN and three containers, all of them network namespaces"
    make_lan
    before=$(host_traces)
    machine web
    machine client
    machine db
    serve lan 80
    ok "host ($HOST, $HOST6), lan ($LAN, $LAN6), web, client, db"

    step "Attach web and client to the network $network ($(basename "$conflist"))"
    if ! $publishes; then capabilities=$(jq 'del(.portMappings)' <<<"$capabilities"); fi
    attach web eth0 "$network" "$capabilities"
    local addr addrs
    mapfile -t addrs < <(addresses)
    attach client eth0 "$network" '{}'

    if ((${#addrs[@]})); then
        step "Serve HTTP in web, and fetch it"
        serve web 80
        serve web 8000
        for addr in "${addrs[@]}"; do
            talk_to_peers "$addr"
            if [[ $(plugin bridge internal false) == true ]]; then talk_internal "$addr"; else talk_outside "$addr"; fi
        done
    else
        step "No HTTP: this network gives no addresses"
    fi

    if $publishes; then
        step "Fetch it through the published port"
        for addr in "${addrs[@]}"; do
            if [[ $(mode "$addr") == routed ]]; then
                say "routed: port 80 of $addr is open from outside, so no port of the host leads to it"
            else
                talk_published "$addr"
            fi
        done
    elif ((${#addrs[@]})); then
        step "No published ports: the network has no portmap"
    fi

    step "Connect client to a second network, $second, while it runs"
    if $named; then start_names; fi
    attach db eth0 "$second" '{"aliases":["db"]}'
    addr=$(addresses | head -n1)
    serve db 80
    refused client "$addr" 80 "networks are isolated from one another"
    if $named; then nameless client db "and so are their names"; fi
    attach client eth1 "$second" '{"aliases":["client"]}'
    reaches client "$addr" 80 "client is on both networks now"
    if $named; then
        resolves client db "$addr" "by name"
        resolves client db.$second "$addr" "and by the network's"
        reaches client db 80 "so names will do"
    fi
    for addr in "${addrs[@]}"; do talk_to_peers "$addr"; done

    step "Disconnect client from $second"
    addr=$(at db ip -j -4 addr show eth0 | jq -r '.[].addr_info[].local')
    detach client eth1 "$second"
    [[ -z $(ip -n client -o link show eth1 2>/dev/null) ]] || fail "eth1 is still there"
    ok "eth1 is gone from client"
    refused client "$addr" 80 "isolated again"
    if $named; then nameless client db "the name is gone with the network"; fi
    for addr in "${addrs[@]}"; do talk_to_peers "$addr"; done

    step "Detach everything, and see what is left"
    stop_servers
    stop_names
    detach db eth0 "$second"
    detach client eth0 "$network"
    detach web eth0 "$network"
    local it left
    for it in web client db; do
        left=$(ip -n "$it" -j link | jq -r '.[].ifname | select(. != "lo")')
        [[ -z $left ]] || fail "$it still has the link $left"
        ip netns del "$it"
    done
    ok "each container has no link but lo"
    leave_nothing "$before"
    printf '\n%sAll %d steps went well.%s\n' "$bold" "$steps" "$plain"
}

case ${1:-} in
--inside) inside "$2" ;;
-h | --help) usage ;;
*) outside "$@" ;;
esac
