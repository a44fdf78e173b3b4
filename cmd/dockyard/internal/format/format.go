// Package format prints lists as docker does: a table, JSON with an object a line,
// or a Go template.
package format

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
)

// A Column is one of a table: its heading, and the field of a row that it shows.
type Column struct{ Head, Field string }

// ErrTemplate is wrapped by the error of a template that cannot be parsed.
var ErrTemplate = errors.New("template parsing error")

// A List is what is printed. Row is a struct whose exported fields are strings; its
// methods can be called by templates, too.
type List[Row any] struct {
	Columns []Column
	// Heads names fields that have another heading than their column's, or no column.
	Heads func() Row
}

// Print prints rows in the form asked for: "" or "table", "table TEMPLATE", "json",
// or a template.
func (l List[Row]) Print(w io.Writer, form string, rows []Row) error {
	switch form {
	case "", "table":
		return l.table(w, rows)
	case "json":
		return lines(w, rows)
	}
	text, table := strings.CutPrefix(form, "table ")
	t, err := Parse(text)
	if err != nil {
		return err
	}
	if !table {
		return each(w, t, rows)
	}
	tw := writer(w)
	if err := each(tw, t, append([]Row{l.Heads()}, rows...)); err != nil {
		return err
	}
	return tw.Flush()
}

func each[Row any](w io.Writer, t *template.Template, rows []Row) error {
	for _, r := range rows {
		if err := t.Execute(w, r); err != nil {
			return fmt.Errorf("template: %w", err)
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

func (l List[Row]) table(w io.Writer, rows []Row) error {
	tw := writer(w)
	var heads []string
	for _, c := range l.Columns {
		heads = append(heads, c.Head)
	}
	if _, err := fmt.Fprintln(tw, strings.Join(heads, "\t")); err != nil {
		return err
	}
	for _, r := range rows {
		var cells []string
		for _, c := range l.Columns {
			cells = append(cells, reflect.ValueOf(r).FieldByName(c.Field).String())
		}
		if _, err := fmt.Fprintln(tw, strings.TrimRight(strings.Join(cells, "\t"), "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// writer is laid out as docker's tables are.
func writer(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 10, 1, 3, ' ', 0) }

// lines prints an object a line, its keys sorted.
func lines[Row any](w io.Writer, rows []Row) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, r := range rows {
		v := reflect.ValueOf(r)
		object := map[string]string{}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				object[f.Name] = v.Field(i).String()
			}
		}
		if err := enc.Encode(object); err != nil {
			return err
		}
	}
	return nil
}

// Parse parses a template, with docker's functions. Written out, "\t" and "\n" are
// what they stand for.
func Parse(text string) (*template.Template, error) {
	t, err := template.New("").Funcs(funcs()).Parse(strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTemplate, err)
	}
	return t, nil
}

func funcs() template.FuncMap {
	return template.FuncMap{
		"json": func(v any) (string, error) {
			var b strings.Builder
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			err := enc.Encode(v)
			return strings.TrimSpace(b.String()), err
		},
		"split": strings.Split,
		"join":  strings.Join,
		"title": func(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] },
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"pad": func(s string, before, after int) string {
			return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
		},
		"truncate": func(s string, n int) string { return string([]rune(s)[:min(n, len([]rune(s)))]) },
	}
}

// Labels is labels as a list prints them.
func Labels(m map[string]string) string {
	var out []string
	for k, v := range m {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}
