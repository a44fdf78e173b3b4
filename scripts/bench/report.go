package main

import (
	"fmt"
	"slices"
	"strings"
)

// report collects the lines of the two tables.
type report struct {
	comparisons []string
	flatness    []string
	alone       []string
}

// compare adds a line with ours beside the reference. More is worse, so the
// ratio says how many times as much the reference takes.
func (r *report) compare(what, against, unit string, ours, reference float64) {
	r.comparisons = append(r.comparisons, fmt.Sprintf("| %s | %s | %s | %s | %.1fx |",
		what, against, quantity(ours, unit), quantity(reference, unit), reference/ours))
}

// compareRate is compare for what is better the more there is.
func (r *report) compareRate(what, against, unit string, ours, reference float64) {
	r.comparisons = append(r.comparisons, fmt.Sprintf("| %s | %s | %s | %s | %.2fx |",
		what, against, quantity(ours, unit), quantity(reference, unit), ours/reference))
}

// flat adds a line that sets one measurement against a smaller one.
func (r *report) flat(what, unit string, large, small float64) {
	r.flatness = append(r.flatness, fmt.Sprintf("| %s | %s | %s | %.2fx |",
		what, quantity(large, unit), quantity(small, unit), large/small))
}

// found adds a line for what has nothing beside it.
func (r *report) found(what, quantity string) {
	r.alone = append(r.alone, fmt.Sprintf("| %s | %s |", what, quantity))
}

// String is the report as Markdown.
func (r *report) String() string {
	return table("| measured (medians) | reference is | ours | reference | ratio |\n| --- | --- | --- | --- | --- |", r.comparisons) +
		table("| large against small | large | small | ratio |\n| --- | --- | --- | --- |", r.flatness) +
		table("| measured | ours |\n| --- | --- |", r.alone)
}

func table(heading string, lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return "\n" + heading + "\n" + strings.Join(lines, "\n") + "\n"
}

// quantity prints v with as many digits as mean something.
func quantity(v float64, unit string) string {
	switch {
	case v >= 100 || v == float64(int(v)):
		return strings.TrimSpace(fmt.Sprintf("%.0f %s", v, unit))
	case v >= 10:
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.2f %s", v, unit)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
