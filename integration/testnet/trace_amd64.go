package testnet

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Trace is the body of a command that runs another one and interferes with the
// n-th system call that changes state, counted over all threads and processes
// that it starts:
//
//	trace -n 7 -do kill|kill-one|EIO -report FILE -total FILE [-all] command arg...
//
// With -all the calls count too that only prepare a change (socket,
// flock, clone): they can fail, but to be killed there is the same as to be killed
// before the change that follows. kill ends all processes just before that call, kill-one only the one that
// makes it; an errno makes the call fail instead of happening. The report says
// which call it was and is not written if there were fewer; the total is how many
// there were. strace(1) can
// inject too, but counts for each thread by itself, and a Go program changes
// threads as it likes.
func Trace() {
	n := flag.Int("n", 0, "which call")
	do := flag.String("do", "kill", "kill, kill-one or EIO")
	report := flag.String("report", "", "where to write what was hit")
	total := flag.String("total", "", "where to write how many calls there were")
	all := flag.Bool("all", false, "count what prepares a change, too")
	list := flag.Bool("list", false, "print every call that counts on stderr")
	flag.Parse()
	runtime.LockOSThread() // ptrace is between threads
	t := &tracer{n: *n, do: *do, report: *report, list: *list, all: *all, threads: map[int]*thread{}}
	code, err := t.run(flag.Args())
	if err == nil && *total != "" {
		err = os.WriteFile(*total, []byte(strconv.Itoa(t.count)), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "trace:", err)
		code = 125
	}
	os.Exit(code)
}

type tracer struct {
	n          int
	do, report string
	list, all  bool
	count      int
	threads    map[int]*thread
}

// A thread is inside a system call or not, and may be about to have one fail.
type thread struct{ inCall, fail bool }

func (t *tracer) run(argv []string) (int, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	root := cmd.Process.Pid
	var ws unix.WaitStatus
	if _, err := unix.Wait4(root, &ws, 0, nil); err != nil {
		return 0, err
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK |
		unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL
	if err := unix.PtraceSetOptions(root, options); err != nil {
		return 0, err
	}
	t.threads[root] = &thread{}
	if err := unix.PtraceSyscall(root, 0); err != nil {
		return 0, err
	}
	return t.loop(root)
}

func (t *tracer) loop(root int) (int, error) {
	code := 0
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.ECHILD):
			return code, nil // all are gone
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, err
		}
		if ws.Exited() || ws.Signaled() {
			delete(t.threads, pid)
			if pid == root && ws.Exited() {
				code = ws.ExitStatus()
			} else if pid == root {
				code = 128 + int(ws.Signal())
			}
			continue
		}
		signal := t.stopped(pid, ws)
		// ESRCH: killed meanwhile; its end is reported in turn.
		if err := unix.PtraceSyscall(pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			return 0, err
		}
	}
}

// stopped looks at a thread that has stopped and returns the signal to go on with.
func (t *tracer) stopped(pid int, ws unix.WaitStatus) int {
	th, known := t.threads[pid]
	if !known {
		th = &thread{}
		t.threads[pid] = th
	}
	switch sig := ws.StopSignal(); {
	case sig == unix.SIGTRAP|0x80:
		t.atCall(pid, th)
		return 0
	case sig == unix.SIGTRAP, sig == unix.SIGSTOP && !known:
		return 0 // an event of ptrace, or the birth of a thread
	default:
		return int(sig)
	}
}

func (t *tracer) atCall(pid int, th *thread) {
	th.inCall = !th.inCall
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return
	}
	if !th.inCall {
		if th.fail {
			regs.Rax = ^uint64(unix.EIO) + 1
			_ = unix.PtraceSetRegs(pid, &regs)
			th.fail = false
		}
		return
	}
	what := changes(pid, &regs)
	if what == "" && t.all {
		what = prepares(&regs)
	}
	if what == "" {
		return
	}
	t.count++
	if t.list {
		fmt.Fprintf(os.Stderr, "trace: %d: %s\n", t.count, what)
	}
	if t.count == t.n {
		t.hit(pid, th, &regs, what)
	}
}

func (t *tracer) hit(pid int, th *thread, regs *unix.PtraceRegs, what string) {
	if t.report != "" {
		_ = os.WriteFile(t.report, []byte(what), 0o644)
	}
	switch t.do {
	case "kill":
		for tid := range t.threads {
			_ = unix.Kill(tgid(tid), unix.SIGKILL)
		}
	case "kill-one":
		_ = unix.Kill(tgid(pid), unix.SIGKILL)
	default:
		regs.Orig_rax = ^uint64(0) // no such call: nothing happens
		th.fail = unix.PtraceSetRegs(pid, regs) == nil
	}
}

// tgid is the process of a thread; kill(2) takes either, but says so nowhere.
func tgid(tid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	for line := range strings.Lines(string(b)) {
		var id int
		if _, err := fmt.Sscanf(line, "Tgid: %d", &id); err == nil {
			return id
		}
	}
	return tid
}

// changes describes a system call that changes the state of the host or tells
// another process something, and is empty for any other.
func changes(pid int, r *unix.PtraceRegs) string {
	switch r.Orig_rax {
	case unix.SYS_OPENAT:
		if r.Rdx&(unix.O_CREAT|unix.O_TRUNC) == 0 {
			return ""
		}
		return describe("open", pid, r.Rsi)
	case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV:
		fd, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, r.Rdi))
		if strings.HasPrefix(fd, "anon_inode:") {
			return "" // the Go runtime waking itself up
		}
		return "write " + strings.TrimRight(fd, "0123456789:[]")
	case unix.SYS_SENDTO:
		return message(pid, "sendto", r.Rsi, r.Rdx)
	case unix.SYS_SENDMSG:
		return sendmsg(pid, r.Rsi)
	case unix.SYS_EXECVE:
		return describe("execve", pid, r.Rdi)
	case unix.SYS_MKDIRAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT:
		return describe(named[r.Orig_rax], pid, r.Rsi)
	case unix.SYS_MKDIR, unix.SYS_RMDIR, unix.SYS_UNLINK, unix.SYS_RENAME, unix.SYS_LINK, unix.SYS_TRUNCATE:
		return describe(named[r.Orig_rax], pid, r.Rdi)
	}
	return named[r.Orig_rax]
}

var named = map[uint64]string{
	unix.SYS_MKDIRAT: "mkdirat", unix.SYS_UNLINKAT: "unlinkat", unix.SYS_RENAMEAT: "renameat",
	unix.SYS_RENAMEAT2: "renameat2", unix.SYS_LINKAT: "linkat", unix.SYS_SYMLINKAT: "symlinkat",
	unix.SYS_MKDIR: "mkdir", unix.SYS_RMDIR: "rmdir", unix.SYS_UNLINK: "unlink", unix.SYS_RENAME: "rename",
	unix.SYS_LINK: "link", unix.SYS_SYMLINK: "symlink", unix.SYS_TRUNCATE: "truncate",
	unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_FALLOCATE: "fallocate", unix.SYS_FCHMODAT: "fchmodat",
	unix.SYS_UTIMENSAT: "utimensat", unix.SYS_MOUNT: "mount", unix.SYS_UMOUNT2: "umount2",
	unix.SYS_FSETXATTR: "fsetxattr", unix.SYS_SETXATTR: "setxattr",
}

// prepares names a call that may fail and after which a change comes. New
// threads do not count: the Go runtime starts them when it likes. Nor does
// setns(2): half of those go back to where the thread came from, which cannot
// fail, and the netlink library relies on that.
func prepares(r *unix.PtraceRegs) string {
	switch r.Orig_rax {
	case unix.SYS_FLOCK:
		return "flock"
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		return "fsync"
	case unix.SYS_SOCKET:
		return "socket"
	case unix.SYS_CLONE:
		if r.Rdi&unix.CLONE_THREAD == 0 {
			return "clone"
		}
	}
	return ""
}

func describe(call string, pid int, path uint64) string {
	b := make([]byte, 256)
	n, _ := unix.PtracePeekData(pid, uintptr(path), b)
	text, _, _ := strings.Cut(string(b[:n]), "\x00")
	return call + " " + text
}

func peek(pid int, addr uint64) uint64 {
	var b [8]byte
	_, _ = unix.PtracePeekData(pid, uintptr(addr), b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// sendmsg looks at the first of the buffers (struct msghdr, struct iovec).
func sendmsg(pid int, hdr uint64) string {
	iov := peek(pid, hdr+16)
	return message(pid, "sendmsg", peek(pid, iov), peek(pid, iov+8))
}

// message leaves out questions, which change nothing: of rtnetlink (RTM_GET*,
// every fourth type from RTM_GETLINK on) and of nftables, whose changes come in
// batches that begin with a type of their own.
func message(pid int, call string, buf, length uint64) string {
	if length < 16 {
		return call
	}
	kind := uint16(peek(pid, buf) >> 32)
	subsystem := kind >> 8
	if subsystem == unix.NFNL_SUBSYS_NFTABLES || subsystem == unix.NFNL_SUBSYS_NFT_COMPAT || kind == unix.NFNL_SUBSYS_CTNETLINK<<8|1 {
		return ""
	}
	if subsystem == 0 && kind >= unix.RTM_NEWLINK && (kind-unix.RTM_NEWLINK)%4 == 2 {
		return ""
	}
	return fmt.Sprintf("%s netlink type %#x, %d bytes", call, kind, length)
}
