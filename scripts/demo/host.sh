# What scripts/demo.sh needs of a host: machines (network namespaces), HTTP, and
# lists of what is there. Sourced.

LAN=192.0.2.2 LAN6=2001:db8::2   # the machine on the LAN
HOST=192.0.2.1 HOST6=2001:db8::1 # this host, on the LAN

bold="" plain=""
if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; fi

steps=0
step() {
    steps=$((steps + 1))
    doing=$1
    printf '\n%s%d. %s%s\n' "$bold" "$steps" "$1" "$plain"
}

ok() { printf '   ✓ %s\n' "$1"; }
say() { printf '     %s\n' "$1"; }

# fail says: what failed, and ends; the EXIT trap cleans up.
fail() {
    printf '\n   ✗ %s\n' "$1" >&2
    exit 1
}

# at MACHINE command...: runs a command on the host, on the LAN or in a container.
at() {
    local machine=$1
    shift
    if [[ $machine == host ]]; then "$@"; else ip netns exec "$machine" "$@"; fi
}

# machine NAME: a network namespace with its loopback link up.
machine() {
    ip netns add "$1"
    ip -n "$1" link set lo up
}

# make_lan joins another machine to the host, which has its default route there.
make_lan() {
    machine lan
    ip link add lan0 type veth peer name eth0 netns lan
    ip link set lan0 up
    ip -n lan link set eth0 up
    ip addr add $HOST/24 dev lan0
    ip -n lan addr add $LAN/24 dev eth0
    ip route add default via $LAN
    ip -n lan route add default via $HOST
    [[ -e /proc/net/if_inet6 ]] || return 0
    ip addr add $HOST6/64 dev lan0 nodad
    ip -n lan addr add $LAN6/64 dev eth0 nodad
    ip route add default via $LAN6
    ip -n lan route add default via $HOST6
}

servers=()

# serve MACHINE PORT: a web server that says who it is and whom it sees.
serve() {
    local root=/run/demo/www-$1 tries
    mkdir -p "$root/cgi-bin"
    cat >"$root/cgi-bin/hello" <<EOF
#!/bin/sh
seen=\${REMOTE_ADDR#[}
seen=\${seen%]}
printf 'Content-Type: text/plain\r\n\r\n%s\n' "$1 says hello to \${seen#::ffff:}"
EOF
    chmod +x "$root/cgi-bin/hello"
    ip netns exec "$1" busybox httpd -f -p "$2" -h "$root" & # no function: $! is to be the server
    servers+=($!)
    for tries in {1..50}; do
        at "$1" curl -s -o /dev/null --max-time 1 "http://127.0.0.1:$2/" && return 0
        sleep 0.1
    done
    fail "the web server in $1 does not answer on its own port $2"
}

stop_servers() {
    local pid
    for pid in "${servers[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${servers[@]}"; do wait "$pid" 2>/dev/null || true; done
    servers=()
}

url() { [[ $1 == *:* ]] && echo "http://[$1]:$2" || echo "http://$1:$2"; }

fetch() { at "$1" curl -sS --connect-timeout 1 --max-time 4 "$(url "$2" "$3")/cgi-bin/hello" 2>&1; }

# reaches FROM ADDRESS PORT WHY: must succeed. refused: must not.
reaches() {
    local answer
    answer=$(fetch "$1" "$2" "$3") || fail "from $1, $(url "$2" "$3") does not answer ($4): $answer"
    printf '   ✓ %-7s → %-30s %s\n' "$1" "$(url "$2" "$3")" "\"$answer\"  ($4)"
}

refused() {
    local answer
    if answer=$(fetch "$1" "$2" "$3"); then
        fail "from $1, $(url "$2" "$3") answers \"$answer\", but must not ($4)"
    fi
    printf '   ✓ %-7s ↛ %-30s %s\n' "$1" "$(url "$2" "$3")" "no answer, as it should be  ($4)"
}

daemon=""

# start_names starts the daemon that answers for names of containers.
start_names() {
    bin/dns-hosts daemon 2>/run/demo/dns-hosts.log &
    daemon=$!
}

stop_names() {
    [[ -z $daemon ]] || { kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null; } || true
    daemon=""
}

# ask_name MACHINE NAME: what its name server says, and what its C library.
ask_name() { at "$1" dig +short +time=1 +tries=2 "$2" A; at "$1" getent ahostsv4 "$2" | awk '{ print $1; exit }'; }

# resolves FROM NAME ADDRESS WHY: both must say so, at once but for a busy machine.
# nameless FROM NAME WHY: neither the daemon nor the hosts file must know it.
resolves() {
    local tries answer
    for tries in {1..20}; do
        answer=$(ask_name "$1" "$2" | sort -u)
        [[ $answer != "$3" ]] || { printf '   ✓ %-7s → %-30s %s\n' "$1" "$2" "is $3  ($4)"; return; }
        sleep 0.1
    done
    fail "in $1, $2 is \"$answer\", want $3 ($4)"
}

nameless() {
    local answer
    answer=$(at "$1" dig @127.0.0.11 +short +time=1 +tries=1 "$2" A | grep -E '^[0-9.]+$' || at "$1" grep -w "$2" /etc/hosts) || true
    [[ -z $answer ]] || fail "in $1, $2 is $answer, but must not be known ($3)"
    printf '   ✓ %-7s ↛ %-30s %s\n' "$1" "$2" "no such name, as it should be  ($3)"
}

# traces prints, one a line, all that attachments could leave on the host: links,
# addresses, files of leases and results, and of the firewall every table and
# every element or rule that bears a comment.
traces() {
    ip -j link | jq -r '.[] | "link \(.ifname)"'
    ip -j addr | jq -r '.[] | .ifname as $l | .addr_info[] | select(.scope == "global") | "address \(.local)/\(.prefixlen) on \($l)"'
    find /var/lib/cni -type f ! -name '*lock' -printf 'file %p\n'
    find /run/dockyard/dns/containers /run/dockyard/dns/hosts /etc/netns -mindepth 1 -printf 'file %p\n' 2>/dev/null || true
    nft -j list ruleset | jq -r '.nftables[]
        | ((.table // empty) | "table \(.family) \(.name)"),
          ((.set // .map // .rule // empty) as $in | ($in | .. | objects | .comment? // empty | strings)
            | select(test("/")) | "firewall element or rule of \(.)")'
    sysctl -n net.ipv4.ip_forward | sed 's/^/sysctl net.ipv4.ip_forward = /'
    sysctl -n net.ipv6.conf.all.forwarding 2>/dev/null | sed 's/^/sysctl net.ipv6.conf.all.forwarding = /'
}

host_traces() { traces | sort -u; }

# shared says the traces of what networks share in a person's words.
shared() {
    sed -E 's|^firewall element or rule of ([a-z]+ )?\*/([^/]+)/(.*)$|\3 of \2, in the firewall|' | sort -u
}
