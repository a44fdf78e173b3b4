# The demo as a person would type it: networks made, used, changed and removed with
# the program dockyard, while containers run. Sourced by scripts/demo.sh.

# types COMMAND...: shows a command and its output.
types() {
    printf '\n     %s$ %s%s\n' "$bold" "$*" "$plain"
    "$@" >/run/demo/output 2>/run/demo/error || fail "$(cat /run/demo/error)"
    sed 's/^/     /' /run/demo/output
}

# types_wrong WORDS COMMAND...: one that is refused in these words.
types_wrong() {
    local words=$1
    shift
    printf '\n     %s$ %s%s\n' "$bold" "$*" "$plain"
    if "$@" >/run/demo/output 2>&1; then fail "that should have been refused"; fi
    sed 's/^/     /' /run/demo/output
    grep -q "$words" /run/demo/output || fail "the answer does not say: $words"
}

# address CONTAINER NETWORK
address() { dockyard ps --filter "name=$1" --filter "network=$2" --format '{{.Address}}'; }

told() {
    export PATH=$PWD/bin:$PATH CNI_PATH=$PWD/bin DOCKYARD_CONFIG=/run/demo/config.json
    echo '{"confDirs": ["/run/demo/net.d"], "audit": "/run/demo/audit.log"}' >$DOCKYARD_CONFIG
    local web db

    step "A host, a LAN, and three containers that run: web, client and db"
    make_lan
    before=$(host_traces)
    machine web
    machine client
    machine db
    serve lan 80
    start_names
    ok "host ($HOST), lan ($LAN), web, client, db; none of them is on a network"

    step "Create two networks"
    types dockyard network create app
    types dockyard network create --internal --label tier=back backend
    types dockyard network ls

    step "Connect containers: they run already, and it takes effect at once"
    types dockyard network connect -p 8080:80 app web
    types dockyard network connect app client
    types dockyard network connect --alias database backend db
    web=$(address web app) db=$(address db backend)
    serve web 80
    serve db 80
    reaches client "$web" 80 "from container to container"
    resolves client web "$web" "by name"
    reaches lan "$HOST" 8080 "published port, from a machine of the LAN"
    refused lan "$web" 80 "from outside, only published ports"
    reaches web "$LAN" 80 "out to the LAN"
    refused db "$LAN" 80 "backend is internal: no way out"
    refused client "$db" 80 "networks are isolated from one another"
    nameless client database "and so are their names"

    step "Who is where, and who holds which port?"
    types dockyard ps
    types dockyard port
    types dockyard names
    types_wrong "port is already allocated" dockyard network connect -p 8080:80 app db

    step "A second network for client, while it talks on the first"
    types dockyard network connect backend client
    reaches client "$db" 80 "client is on both networks now"
    resolves client database "$db" "by its alias"
    reaches client "$web" 80 "and on the first as before"
    types dockyard network disconnect backend client
    refused client "$db" 80 "isolated again"
    reaches client "$web" 80 "the first is as before"

    step "Change a network while containers run on it"
    types dockyard network update app --mtu 1400 --icc=false --dry-run
    types dockyard network update app --mtu 1400 --icc=false
    refused client "$web" 80 "containers are kept apart now"
    reaches lan "$HOST" 8080 "the published port answers as before"
    types dockyard network update app --icc=true
    reaches client "$web" 80 "and together again"

    step "Try something: a command on a network, gone with the command"
    types dockyard run --network app --name try -- ping -c 1 -q web
    types dockyard exec web -- ip -br -4 addr

    step "Remove it all"
    types_wrong "has active endpoints" dockyard network rm app
    stop_servers
    types dockyard network rm -f app backend
    types dockyard network ls
    stop_names
    local it left
    for it in web client db; do
        left=$(ip -n "$it" -j link | jq -r '.[].ifname | select(. != "lo")')
        [[ -z $left ]] || fail "$it still has the link $left"
        ip netns del "$it"
    done
    ok "each container has no link but lo"
    leave_nothing "$before"
    say "Who did what:"
    sed 's/^/       /' /run/demo/audit.log
    printf '\n%sAll %d steps went well.%s\n' "$bold" "$steps" "$plain"
}
