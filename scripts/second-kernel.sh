#!/usr/bin/env bash
# Runs a command under Debian's kernel in an emulated machine, for what the
# host's kernel was built without: ipvlan, 802.1Q, VLANs of bridges, dummy links.
#
#   scripts/second-kernel.sh ip link add d0 type dummy
#   go test -exec scripts/second-kernel.sh ./integration
#
# The command runs as root, in the same directory, with the same environment and
# without standard input, and sees the host's files. What it writes below
# KERNEL_WRITES (the current directory unless set) is kept, the rest is dropped.
# Before it, the machine's shell runs what KERNEL_PREPARE says. With KERNEL_INIT
# set, say to /lib/systemd/systemd, that is process 1, and the command a unit of it.
# The exit status is the command's; 125 if the machine did not come to its end,
# after its kernel's log.
#
# The machine is emulated in software, as many hosts have no KVM to give: it
# boots in 3 s, and runs 5 to 10 times slower than the host. Its kernel is told what
# makes that bearable: programs lie at the same addresses each time they start, so
# that QEMU translates them once (that alone halves the time); the clock is the TSC,
# and sleeps go by the tick, as each use of other timers leaves the emulation; memory
# is not cleared twice. That the timer ticks is not tested at boot, as the kernel gives
# up where a busy host lets its first ticks come late.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/setup.sh"
(($#)) || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

readonly MEMORY=2G SECONDS_TO_LIVE=${KERNEL_SECONDS:-5400}
kernel=$(realpath "$(second_kernel)") # the guest has the host's files elsewhere
release=$(ls "$kernel/lib/modules")
writes=${KERNEL_WRITES:-$PWD}

dir=$(mktemp -d)
finish() {
    local pids
    pids=$(jobs -p)
    [[ -z $pids ]] || kill $pids 2>/dev/null || true
    rm -rf "$dir"
    rm -f "/run/virtiofsd/${dir//\//.}.files.pid" # which virtiofsd forgets
}
trap finish EXIT
trap 'exit 125' HUP INT QUIT TERM

# What the guest runs once it sees the host's files.
echo 125 >"$dir/status"
{
    export -p
    printf 'cd %q\nexec' "$PWD"
    printf ' %q' "$@"
} >"$dir/command"
cat >"$dir/stage2" <<END
KERNEL_PREPARE=$(printf %q "${KERNEL_PREPARE:-}") KERNEL_INIT=$(printf %q "${KERNEL_INIT:-}")
END
cat >>"$dir/stage2" <<'END'
eval "$KERNEL_PREPARE"
if [ "$KERNEL_INIT" ]; then
    units=/run/systemd/system
    mkdir -p $units
    ln -s /dev/null $units/systemd-tmpfiles-setup.service # empties /tmp, and some of it is the host's
    printf '[Service]\nType=oneshot\nExecStart=/bin/sh %s/stage3 %s\n' "$1" "$1" >$units/second-kernel.service
    exec "$KERNEL_INIT" --unit=second-kernel.service --show-status=no
fi
exec sh "$1/stage3" "$1"
END
cat >"$dir/stage3" <<'END'
status=0
setsid bash "$1/command" </dev/null >/dev/ttyS1 2>/dev/ttyS2 || status=$?
echo $status >"$1/status"
/bin/busybox sync
/bin/busybox poweroff -f
END

# The first root: busybox, and the modules by which the host's files are reached.
# Over the host's files lies a layer of memory that takes what is written.
mkdir -p "$dir"/initrd/{bin,proc,host,tmp,root}
cp /bin/busybox "$dir/initrd/bin/"
for module in virtio_pci virtiofs overlay; do
    modprobe -d "$kernel" -S "$release" --show-depends "$module"
done | while read -r _ file _; do
    [[ ! -e $dir/initrd/${file##*/} ]] || continue
    cp "$file" "$dir/initrd/"
    echo "insmod /${file##*/}"
done >"$dir/modules"
{
    printf '#!/bin/busybox sh\nset -e\n/bin/busybox --install -s /bin\n'
    cat "$dir/modules"
    printf 'kernel=%q writes=%q dir=%q\n' "$kernel" "$writes" "$dir"
    cat <<'END'
mount -t virtiofs host /host
mount -t tmpfs tmpfs /tmp
mkdir /tmp/upper /tmp/work
mount -t overlay -o lowerdir=/host,upperdir=/tmp/upper,workdir=/tmp/work root /root
cd /root
mkdir -p lib/modules
mount --bind "/host$kernel/lib/modules" lib/modules
for m in proc:proc sysfs:sys tmpfs:run devtmpfs:dev devpts:dev/pts tmpfs:dev/shm; do
    mkdir -p "${m#*:}"
    mount -t "${m%:*}" none "${m#*:}"
done
for d in "$writes" "$dir"; do
    mkdir -p "./$d"
    mount --bind "/host$d" "./$d"
done
ip link set lo up
for n in 1 2; do stty -opost <dev/ttyS$n; done
exec switch_root . /bin/busybox sh "$dir/stage2" "$dir"
END
} >"$dir/initrd/init"
chmod +x "$dir/initrd/init"
(cd "$dir/initrd" && find . | busybox cpio -o -H newc 2>/dev/null) >"$dir/initrd.cpio"

# virtiofsd ends with its only client.
/usr/lib/qemu/virtiofsd --socket-path="$dir/files" -o source=/,sandbox=chroot,cache=always >"$dir/files.log" 2>&1 &
for _ in {1..100}; do
    [[ ! -S $dir/files ]] || break
    sleep 0.05
done
exec 3> >(cat)
output=$!
exec 4> >(cat >&2)
errors=$!
timeout -k 5 "$SECONDS_TO_LIVE" qemu-system-x86_64 \
    -accel tcg,thread=multi -cpu max -smp 2 -m "$MEMORY" \
    -machine q35,memory-backend=mem -object memory-backend-memfd,id=mem,size="$MEMORY",share=on \
    -nodefaults -no-user-config -display none -no-reboot \
    -chardev socket,id=files,path="$dir/files" -device vhost-user-fs-pci,chardev=files,tag=host \
    -serial file:"$dir/log" -serial file:/dev/fd/3 -serial file:/dev/fd/4 \
    -kernel "$kernel/boot/vmlinuz-$release" -initrd "$dir/initrd.cpio" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off norandmaps tsc=reliable highres=off init_on_alloc=0 no_timer_check" </dev/null &
machine=$!
exec 3>&- 4>&-
wait "$machine" || true
wait "$output" "$errors" || true
status=$(<"$dir/status")
((status != 125)) || cat "$dir/log" "$dir/files.log" >&2
exit "$status"
