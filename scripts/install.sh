#!/usr/bin/env bash
# Installs what build_linux.sh has built beside a running node: no half-written
# binary is ever executed, and at no time is one missing.
#
#   scripts/install.sh [--replace] [DIR]      into DIR, /opt/cni/bin by default
#   scripts/install.sh --uninstall [DIR]      removes them again
#
# Binaries of others are not overwritten unless --replace is given; then they are
# kept in DIR/.dockyard, and --uninstall puts them back. With the plugins come
# systemd units for those that have a daemon, and drop-ins that keep
# NetworkManager and systemd-networkd off our links, where these are installed.
#
#   BIN=dir      the programs to install, instead of bin
#   DESTDIR=dir  stands before /etc and the default DIR, for packages
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

DESTDIR=${DESTDIR:-}
BIN=${BIN:-bin}
replace="" uninstall="" dir=""
for arg in "$@"; do
    case $arg in
    --replace) replace=1 ;;
    --uninstall) uninstall=1 ;;
    -*) sed -n '2,16s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    *) dir=$arg ;;
    esac
done
dir=${dir:-$DESTDIR/opt/cni/bin}
own=$dir/.dockyard # what is installed (files), and what was replaced (replaced/)

die() {
    echo "install: $*" >&2
    exit 1
}

# ours FILE: whether it is a program of this module, of any version.
ours() {
    local main="path	github.com/dockyard-cni/dockyard"
    grep -qF -e "$main/plugins/" -e "$main/cmd/" "$1"
}

# put SOURCE TARGET MODE: the target is the old file or the new one, at any time.
put() {
    local new
    new=$(dirname "$2")/.$(basename "$2").new
    install -m "$3" "$1" "$new"
    sync "$new"
    mv -fT "$new" "$2"
}

names() {
    local p
    for p in "$BIN"/*; do [[ ! -x $p || $p == */cnitool ]] || echo "${p##*/}"; done
}

# drop_ins prints the paths of those that this system has a use for.
drop_ins() {
    [[ ! -d $DESTDIR/etc/NetworkManager ]] || echo "$DESTDIR/etc/NetworkManager/conf.d/90-dockyard.conf"
    [[ ! -d $DESTDIR/etc/systemd ]] || echo "$DESTDIR/etc/systemd/network/10-dockyard.network"
}

# The links that plugins make have these names, unless the configuration names them.
# Bridges of other names are for the administrator to add: br-lan may be his own.
links=("veth*" "bwp*" "cni*" "docker*" "br-vx*" "dyd*" "dyh*" "vx"{1..9}"*")

drop_in() {
    case $1 in
    *.conf) printf '[device-dockyard]\nmatch-device=%s\nmanaged=0\n' "$(printf 'interface-name:%s;' "${links[@]}")" ;;
    *.network) printf '[Match]\nName=%s\n\n[Link]\nUnmanaged=yes\n' "${links[*]}" ;;
    esac
}

check() {
    local name foreign=()
    [[ -n $(names) ]] || die "no plugins in $BIN; run ./build_linux.sh first"
    for name in $(names); do
        ours "$BIN/$name" || die "$BIN/$name is not a program of this project"
        if [[ -e $dir/$name ]] && ! ours "$dir/$name"; then foreign+=("$name"); fi
    done
    if ((${#foreign[@]})) && [[ -z $replace ]]; then
        die "$dir has binaries of others: ${foreign[*]}; give --replace to install over them (they are kept, and --uninstall puts them back)"
    fi
}

install_all() {
    local name file unit
    check
    mkdir -p "$own/replaced"
    for name in $(names); do
        if [[ -e $dir/$name ]] && ! ours "$dir/$name"; then
            put "$dir/$name" "$own/replaced/$name" "$(stat -c %a "$dir/$name")"
        fi
        put "$BIN/$name" "$dir/$name" 755
    done
    names >"$own/files.new"
    mv -f "$own/files.new" "$own/files"
    for file in $(drop_ins); do
        mkdir -p "$(dirname "$file")"
        put <(drop_in "$file") "$file" 644
    done
    for unit in scripts/*.service; do
        [[ -e $unit && -d $DESTDIR/etc/systemd ]] || continue
        mkdir -p "$DESTDIR/etc/systemd/system"
        put <(sed "s|/opt/cni/bin|${dir#"$DESTDIR"}|g" "$unit") "$DESTDIR/etc/systemd/system/$(basename "$unit")" 644
    done
    reload
    say_next
}

# reload tells systemd; a package's scripts do that themselves.
reload() {
    if [[ -z $DESTDIR && -d /run/systemd/system ]]; then systemctl daemon-reload; fi
}

say_next() {
    local unit
    echo "installed in $dir: $(names | paste -sd' ')"
    for unit in scripts/*.service; do
        [[ ! -e $unit ]] || echo "start what you need of: systemctl enable --now $(basename "$unit")"
    done
    cat <<TEXT
A network is a file in /etc/cni/net.d. To begin with, as root:
  dockyard         ln -s ${dir#"$DESTDIR"}/dockyard /usr/local/sbin/; then dockyard network create app
  kubelet          cp $PWD/conf-examples/kubernetes.conflist /etc/cni/net.d/10-kubernetes.conflist
                   and give each node a subnet of its own in it
  nerdctl, podman  write their own; or one of conf-examples, by its name
  podman 4         gives names to networks that are made once there is a plugin dnsname:
                   ln -s dns-hosts ${dir#"$DESTDIR"}/dnsname
  cnitool          cp $PWD/conf-examples/bridge.conflist /etc/cni/net.d/
TEXT
}

# uninstall_all leaves alone what somebody else has put in place since.
uninstall_all() {
    local name unit file link
    [[ -e $own/files ]] || die "nothing is installed in $dir"
    while read -r name; do
        if [[ -e $dir/$name ]] && ! ours "$dir/$name"; then
            echo "install: $dir/$name is not ours any more, left alone" >&2
        elif [[ -e $own/replaced/$name ]]; then
            mv -fT "$own/replaced/$name" "$dir/$name"
        else
            rm -f "$dir/$name"
        fi
    done <"$own/files"
    # The links that say_next tells of.
    [[ $(readlink "$dir/dnsname") != dns-hosts ]] || rm "$dir/dnsname"
    link=$DESTDIR/usr/local/sbin/dockyard
    [[ $(readlink "$link") != "${dir#"$DESTDIR"}/dockyard" ]] || rm "$link"
    for unit in scripts/*.service; do
        file=$DESTDIR/etc/systemd/system/$(basename "$unit")
        [[ -e $unit && -e $file ]] || continue
        if [[ -z $DESTDIR && -d /run/systemd/system ]]; then systemctl disable --now "$(basename "$unit")"; fi
        rm -f "$file"
    done
    drop_ins | xargs -r rm -f
    rm -f "$own/files"
    rmdir "$own/replaced" "$own" 2>/dev/null || echo "install: what was replaced stays in $own/replaced" >&2
    reload
    echo "removed from $dir"
}

if [[ -n $uninstall ]]; then uninstall_all; else install_all; fi
