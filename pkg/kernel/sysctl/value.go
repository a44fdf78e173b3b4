package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A Value is one setting that somebody asked for, so that it is an error if the
// kernel does not have it.
type Value struct {
	Name  string `json:"name"` // path below /proc/sys
	Value string `json:"value"`
}

// Normal is the value with single spaces between its words, as the kernel prints
// a tab where people type a space.
func (v Value) Normal() string { return strings.Join(strings.Fields(v.Value), " ") }

// Equal reports whether the kernel, which prints found, has the value: it prints
// addresses and numbers in one form, and takes others.
func (v Value) Equal(found string) bool {
	return slices.EqualFunc(strings.Fields(v.Value), strings.Fields(found), func(a, b string) bool {
		if a == b {
			return true
		}
		if x, err := netip.ParseAddr(a); err == nil {
			y, err := netip.ParseAddr(b)
			return err == nil && x == y
		}
		x, errA := strconv.ParseInt(a, 0, 64)
		y, errB := strconv.ParseInt(b, 0, 64)
		return errA == nil && errB == nil && x == y
	})
}

// Read returns what a namespace has of these settings, normal. What the kernel
// does not let anybody read is left out.
func Read(ns *netns.NS, values []Value) (found []Value, err error) {
	if len(values) == 0 {
		return nil, nil
	}
	err = ns.Do(func() error {
		for _, v := range values {
			b, readErr := os.ReadFile(root + v.Name)
			if errors.Is(readErr, fs.ErrNotExist) {
				return fmt.Errorf("sysctl %s: no such setting in this namespace", v.Name)
			}
			if readErr == nil {
				found = append(found, Value{v.Name, Value{Value: string(b)}.Normal()})
			}
		}
		return nil
	})
	return found, err
}

// Write sets them in order. It goes on past failures.
func Write(ns *netns.NS, values []Value) error { return each(ns, values, Value.write) }

// Restore sets those that are there and differ, some of which may be read-only. It
// goes on past failures.
func Restore(ns *netns.NS, values []Value) error {
	return each(ns, values, func(v Value) error {
		found, err := os.ReadFile(root + v.Name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && v.Equal(string(found)) {
			return nil
		}
		return v.write()
	})
}

func (v Value) write() error {
	if err := os.WriteFile(root+v.Name, []byte(v.Value), 0); err != nil {
		return fmt.Errorf("sysctl %s=%s: %w", v.Name, v.Value, err)
	}
	return nil
}

func each(ns *netns.NS, values []Value, f func(Value) error) error {
	if len(values) == 0 {
		return nil
	}
	return ns.Do(func() error {
		var errs []error
		for _, v := range values {
			errs = append(errs, f(v))
		}
		return errors.Join(errs...)
	})
}
