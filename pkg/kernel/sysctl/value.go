package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
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

// Write sets them in order.
func Write(ns *netns.NS, values []Value) error { return each(ns, values, nil) }

// Restore sets those that are still there, whatever becomes of the others.
func Restore(ns *netns.NS, values []Value) error { return each(ns, values, fs.ErrNotExist) }

func each(ns *netns.NS, values []Value, except error) error {
	if len(values) == 0 {
		return nil
	}
	return ns.Do(func() error {
		var errs []error
		for _, v := range values {
			if err := os.WriteFile(root+v.Name, []byte(v.Value), 0); err != nil && (except == nil || !errors.Is(err, except)) {
				errs = append(errs, fmt.Errorf("sysctl %s=%s: %w", v.Name, v.Value, err))
			}
		}
		return errors.Join(errs...)
	})
}
