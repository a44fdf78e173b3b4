package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"

	coreos "github.com/coreos/go-iptables/iptables"
)

const (
	table = "nat"
	wait  = 30 // seconds for the lock of iptables itself
)

// A family is the nat table of IPv4 or IPv6 and what differs between the two.
type family struct {
	command             string
	proc                string // there if the kernel has the family
	loopback, multicast netip.Prefix
	open                func() (*coreos.IPTables, error)
}

var (
	v4 = newFamily("iptables", "/proc/net/route", coreos.ProtocolIPv4, "127.0.0.0/8", "224.0.0.0/4")
	v6 = newFamily("ip6tables", "/proc/net/if_inet6", coreos.ProtocolIPv6, "::1/128", "ff00::/8")

	families = []*family{v4, v6}
)

func newFamily(command, proc string, p coreos.Protocol, loopback, multicast string) *family {
	return &family{
		command:   command,
		proc:      proc,
		loopback:  netip.MustParsePrefix(loopback),
		multicast: netip.MustParsePrefix(multicast),
		// Once, because it asks the command for its version.
		open: sync.OnceValues(func() (*coreos.IPTables, error) {
			return coreos.New(coreos.IPFamily(p), coreos.Timeout(wait))
		}),
	}
}

func (f *family) restorer() string { return f.command + "-restore" }

func (f *family) has(a netip.Addr) bool { return a.Is4() == f.loopback.Addr().Is4() }

// list returns the rules of a chain, none if there is no such chain.
func (f *family) list(chain string) ([]rule, error) {
	ipt, err := f.open()
	if err != nil {
		return nil, missing(err)
	}
	lines, err := ipt.List(table, chain)
	if err != nil {
		return nil, missing(err)
	}
	var rules []rule
	for _, line := range lines {
		if r, ok := parse(line); ok {
			rules = append(rules, r)
		}
	}
	return rules, nil
}

// exists reports whether one of the chains exists.
func (f *family) exists(chains ...string) (bool, error) {
	ipt, err := f.open()
	for i := 0; err == nil && i < len(chains); i++ {
		var found bool
		if found, err = ipt.ChainExists(table, chains[i]); found {
			return true, nil
		}
	}
	return false, missing(err)
}

// missing returns nil for errors that say that a chain, the table or iptables
// itself is not there.
func missing(err error) error {
	var failed *coreos.Error
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil
	// Of a chain in a table that was never used, iptables-nft says that it is
	// "incompatible": only the status is the same for all.
	case errors.As(err, &failed) && (failed.ExitStatus() == 1 || failed.IsNotExist()):
		return nil
	}
	return err
}

// share makes the shared chain and rules if they are missing.
func (f *family) share(chain string, rules []rule) error {
	ipt, err := f.open()
	if err != nil {
		return err
	}
	ok, err := ipt.ChainExists(table, chain)
	if err == nil && !ok {
		err = ipt.NewChain(table, chain)
	}
	for i := 0; err == nil && i < len(rules); i++ {
		if r := rules[i]; r.op == insert {
			err = ipt.InsertUnique(table, r.chain, 1, r.spec...)
		} else {
			err = ipt.AppendUnique(table, r.chain, r.spec...)
		}
	}
	return err
}

// restore carries out all lines or none. The process inherits the lock, so if
// this one is killed the lock is held until that one is done.
func (f *family) restore(ctx context.Context, lock *os.File, lines []string) error {
	return f.restoreTable(ctx, table, lock, lines)
}

func (f *family) restoreTable(ctx context.Context, table string, lock *os.File, lines []string) error {
	lines = append([]string{"*" + table}, append(lines, "COMMIT\n")...)
	cmd := exec.CommandContext(ctx, f.restorer(), "--noflush", "--wait", strconv.Itoa(wait))
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	if lock != nil {
		cmd.ExtraFiles = []*os.File{lock}
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", f.restorer(), err, explain(stderr.String(), lines))
	}
	return nil
}

// explain returns the first line of what iptables-restore complains about, and
// the input line that it means.
func explain(stderr string, lines []string) string {
	complaint, _, _ := strings.Cut(strings.TrimSpace(stderr), "\n")
	lineNumber := regexp.MustCompile(`line:? (\d+)`)
	if m := lineNumber.FindStringSubmatch(stderr); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil && n > 0 && n <= len(lines) {
			complaint += ": " + lines[n-1]
		}
	}
	return complaint
}
