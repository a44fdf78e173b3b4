package iptables

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// matchOptions are the one-letter options that select packets. All others give
// a command, a target or the program to load modules with.
var matchOptions = []string{"-m", "-s", "-d", "-i", "-o", "-p", "-f"}

// otherOptions are the long ones that do not. iptables takes any beginning of
// them too.
var otherOptions = []string{
	"--append", "--check", "--delete", "--delete-chain", "--exact", "--flush", "--goto", "--help",
	"--insert", "--jump", "--line-numbers", "--list", "--list-rules", "--modprobe", "--new-chain",
	"--policy", "--rename-chain", "--replace", "--set-counters", "--table", "--verbose", "--version",
	"--wait", "--wait-interval", "--zero",
}

// matchNames are options of matches that are the beginning of such a one.
var matchNames = []string{"--pol", "--set"}

// ValidateConditions names every word that does not merely select packets, as
// far as that can be told without iptables: another command, table or target. No
// word ever reaches a shell.
func ValidateConditions(words []string) error {
	var errs []error
	for _, w := range words {
		if err := validate(w); err != nil {
			errs = append(errs, fmt.Errorf("condition %q: %w", w, err))
		}
	}
	return errors.Join(errs...)
}

func validate(w string) error {
	name, _, _ := strings.Cut(w, "=")
	switch {
	case w == "":
		return errors.New("empty word")
	case strings.ContainsFunc(w, unicode.IsControl):
		return errors.New("control character")
	case strings.HasPrefix(w, "--"):
		begins := func(option string) bool { return strings.HasPrefix(option, name) }
		if !slices.Contains(matchNames, name) && slices.ContainsFunc(otherOptions, begins) {
			return errors.New("not an option that selects packets")
		}
	case strings.HasPrefix(w, "-") && !slices.Contains(matchOptions, w):
		return errors.New("not an option that selects packets")
	}
	return nil
}
