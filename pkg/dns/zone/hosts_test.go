package zone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

func store(t *testing.T) Store {
	dir := t.TempDir()
	return Store{Root: filepath.Join(dir, "dns"), NetNS: filepath.Join(dir, "netns")}
}

// seen is what a C library makes of the hosts file of a container: the lines that
// count, without comments, in order.
func seen(t *testing.T, s Store, container string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.container(container), hostsFile))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(strings.TrimPrefix(string(data), header((&hosts{data: data}).networks()))) {
		if len(line) >= 512 {
			t.Errorf("musl cuts a line of %d bytes", len(line))
		}
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

// Any order of ADD and DEL, on networks that share containers, leaves hosts files
// that say what a model says, in the file that was there before.
func TestHostsModel(t *testing.T) {
	s, model := store(t), map[owner.Mark]*Record{}
	r := rand.New(rand.NewPCG(rand.Uint64(), 1))
	networks := []string{"a", "b", "c"}
	for step := range 400 {
		c := fmt.Sprintf("c%d", r.IntN(6))
		n := r.IntN(len(networks))
		names := []string{"name-" + c, strings.Repeat("x", r.IntN(50)+1), "alias"}
		rec := record(networks[n], c, fmt.Sprintf("eth%d", n), names, fmt.Sprintf("10.%d.0.%d", n, r.IntN(250)), fmt.Sprintf("fd00::%x", r.IntN(65535)))
		if model[rec.Mark] != nil {
			if err := (Entry{Store: s, Record: Record{Mark: rec.Mark}}).Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			delete(model, rec.Mark)
		} else {
			if err := (Entry{Store: s, Record: *rec}).Apply(t.Context()); err != nil {
				t.Fatal(err)
			}
			model[rec.Mark] = rec
		}
		compare(t, s, model)
		if t.Failed() {
			t.Fatalf("step %d", step)
		}
	}
	for m := range model {
		if err := (Entry{Store: s, Record: Record{Mark: m}}).Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{s.Containers(), s.hostsDir(), s.seals()} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left is %v, %v", dir, left, err)
		}
	}
}

func compare(t *testing.T, s Store, model map[owner.Mark]*Record) {
	t.Helper()
	for m, rec := range model {
		var want []string
		for other, r := range model {
			for mine := range model {
				if mine.SameContainer(m) && mine.Network() == other.Network() {
					want = append(want, linesOf(r)...)
					break
				}
			}
		}
		slices.Sort(want)
		if got := seen(t, s, m.Container()); !slices.Equal(got, want) {
			t.Errorf("%s sees\n%s\nwant\n%s", m.Container(), strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if diff, err := (Entry{Store: s, Record: *rec}).Observe(t.Context()); err != nil || diff != engine.Same {
			t.Errorf("%s: %q, %v", m, diff, err)
		}
	}
}

// A file that is mounted somewhere stays the same file, and grows only as far as
// there were attachments at a time.
func TestHostsKeepTheirPlace(t *testing.T) {
	s := store(t)
	first := Entry{Store: s, Record: *record("a", "c1", "eth0", []string{"one"}, "10.0.0.1")}
	if err := first.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := s.hosts("a")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for i := range 50 {
		e := Entry{Store: s, Record: *record("a", "c2", "eth0", []string{fmt.Sprintf("n%d", i)}, fmt.Sprintf("10.0.0.%d", i+2))}
		if err := e.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		now, err := os.Stat(path)
		if err != nil || !os.SameFile(before, now) || size != 0 && now.Size() != size {
			t.Fatalf("%d: another file, or one that grows: %v", i, err)
		}
		size = now.Size()
		if err := e.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, []byte("garbage"), 0o644); err != nil { // in place
		t.Fatal(err)
	}
	e := Entry{Store: s, Record: *record("a", "c3", "eth0", []string{"three"}, "10.0.0.3")}
	if err := e.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := seen(t, s, "c3"); !slices.Equal(got, []string{"10.0.0.1\tone one.a", "10.0.0.3\tthree three.a"}) {
		t.Errorf("after garbage: %q", got)
	}
	if now, err := os.Stat(path); err != nil || !os.SameFile(before, now) {
		t.Error("it is another file after garbage: ", err)
	}
}

// A reader that comes at any moment finds whole lines.
func TestHostsAreAlwaysWhole(t *testing.T) {
	s := store(t)
	for _, c := range []string{"stays1", "stays2"} {
		if err := (Entry{Store: s, Record: *record("a", c, "eth0", []string{c}, "10.0.0.1")}).Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error)
	go func() {
		for i := range 300 {
			e := Entry{Store: s, Record: *record("a", "comes", "eth0", []string{"comes"}, fmt.Sprintf("10.0.0.%d", 2+i%200))}
			if err := e.Apply(t.Context()); err != nil {
				done <- err
				return
			}
			if err := e.Remove(t.Context()); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
		for _, line := range seen(t, s, "stays1") {
			addr, names, ok := strings.Cut(line, "\t")
			if !ok || names != "comes comes.a" && names != "stays1 stays1.a" && names != "stays2 stays2.a" || !strings.HasPrefix(addr, "10.0.0.") {
				t.Fatalf("a reader sees %q", line)
			}
		}
	}
}

// A file that anybody may have written is read for what it is worth.
func FuzzParseRecord(f *testing.F) {
	good, err := json.Marshal(record("net", "c1", "eth0", []string{"web"}, "10.1.0.2", "fd00::2"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("web"), []byte("../x"), 1))
	f.Add([]byte(`{"mark":"a/b/c","network":"a","names":["x"],"addresses":["::ffff:1.2.3.4"]}`))
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRecord(data)
		if err != nil {
			return
		}
		c := catalog(&r)
		for _, name := range r.qualified() {
			if !c.View(r.Mark.Container()).Answer(name, 1).Known {
				t.Errorf("%q is not found", name)
			}
		}
		file := Hosts([]string{r.Mark.Network()}, []Record{r})
		for l := range (&hosts{data: file}).lines() {
			if l.mark != r.Mark || strings.ContainsAny(l.text, "#\n\r") {
				t.Errorf("line %+v", l)
			}
		}
	})
}

// Lines are found wherever they stand in a large file, and however long they are.
func TestHostsLarge(t *testing.T) {
	s := store(t)
	long := strings.Repeat(strings.Repeat("n", 63)+".", 3) + strings.Repeat("n", 61)
	entry := func(i int) Entry {
		return Entry{Store: s, Record: *record("a", fmt.Sprintf("%s%d", strings.Repeat("c", 60), i), "eth0", []string{fmt.Sprintf("n%d", i), long}, "10.0.0.1")}
	}
	const many = 200
	for i := range many {
		if err := entry(i).Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	st, err := os.Stat(s.hosts("a"))
	if err != nil || st.Size() < 64<<10 {
		t.Fatal(st.Size(), err)
	}
	for _, step := range []struct {
		do   func(Entry, context.Context) error
		want engine.Diff
	}{{Entry.Remove, engine.Absent}, {Entry.Apply, engine.Same}} {
		for i := 1; i < many; i += 3 {
			if err := step.do(entry(i), t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for i := range many {
			want := engine.Same
			if i%3 == 1 {
				want = step.want
			}
			if diff, err := entry(i).Observe(t.Context()); err != nil || diff != want {
				t.Errorf("%d: %q, %v, want %q", i, diff, err, want)
			}
		}
	}
	if after, err := os.Stat(s.hosts("a")); err != nil || after.Size() != st.Size() {
		t.Errorf("%d bytes, then %d: room is not used again", st.Size(), after.Size())
	}
}

// Whatever stands in a hosts file, one line is added and taken away, and nothing
// else changes for a reader.
func FuzzHosts(f *testing.F) {
	f.Add([]byte(header([]string{"a"})))
	f.Add(Hosts([]string{"a"}, []Record{*record("a", "c1", "eth0", []string{"web"}, "10.1.0.2")}))
	f.Add([]byte(header([]string{"a"}) + "#\n# \n#   \nx # a/b/c\n#cut\n"))
	path := filepath.Join(f.TempDir(), "a")
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 0 && data[len(data)-1] != '\n' {
			return // intact refuses it
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		read := func() *hosts {
			h, err := readHosts(path, os.O_RDWR)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = h.file.Close() })
			return h
		}
		m, h := owner.Mark("a/new/eth0"), read()
		before := h.others(m)
		if err := h.drop(h.of(m)); err != nil {
			t.Fatal(err)
		}
		if err := h.add(m, "10.0.0.9\tnew new.a"); err != nil {
			t.Fatal(err)
		}
		again := read()
		if !bytes.Equal(again.data, h.data) || !slices.Equal(texts(again.of(m)), []string{"10.0.0.9\tnew new.a"}) || !slices.Equal(again.others(m), before) {
			t.Fatalf("added: %q, %q", again.data, h.data)
		}
		if err := again.drop(again.of(m)); err != nil {
			t.Fatal(err)
		}
		if last := read(); len(texts(last.of(m))) > 0 || !slices.Equal(last.others(m), before) {
			t.Fatalf("dropped: %q", last.data)
		}
	})
}

// A11: a container may have the file mounted, and be able to write to it. Whatever it
// does there, the next ADD or DEL writes the file anew, in place, from the records; and
// no verb takes longer for it.
func TestA11HostsFileIsWrittenTo(t *testing.T) {
	forged := func(text string) func(string) error {
		return func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString(text)
			return errors.Join(err, f.Close())
		}
	}
	for name, spoil := range map[string]func(path string) error{
		"a line":                         forged("6.6.6.6\tbank.example\n"),
		"a line with a mark":             forged("6.6.6.6\tbank.example # a/c1/eth0\n"),
		"a line of another network":      forged("6.6.6.6\tbank.example # b/c9/eth0\n"),
		"a line without an end":          forged("6.6.6.6\tbank.example # a/c1/eth0"),
		"300 GB":                         func(path string) error { return os.Truncate(path, 300<<30) },
		"nothing":                        func(path string) error { return os.Truncate(path, 0) },
		"part of it":                     func(path string) error { return os.Truncate(path, 200) },
		"garbage":                        func(path string) error { return os.WriteFile(path, []byte("garbage"), 0) },
		"another address of a container": replace("10.0.0.1", "10.6.6.6"),
		"another network":                replace("containers on: a", "containers on: b"),
	} {
		for _, verb := range []string{"ADD", "DEL"} {
			s := store(t)
			entry := func(i int) Entry {
				return Entry{Store: s, Record: *record("a", fmt.Sprintf("c%d", i), "eth0", []string{fmt.Sprintf("n%d", i)}, fmt.Sprintf("10.0.0.%d", i))}
			}
			for i := 1; i <= 3; i++ {
				if err := entry(i).Apply(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			path := s.hosts("a")
			before, err := os.Stat(path)
			if err == nil {
				err = spoil(path)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err = entry(1).Observe(t.Context()); err != nil {
				t.Errorf("%s: CHECK: %v", name, err)
			}
			want := []string{"10.0.0.1\tn1 n1.a", "10.0.0.2\tn2 n2.a"}
			if verb == "ADD" {
				want = append(want, "10.0.0.3\tn3 n3.a", "10.0.0.4\tn4 n4.a")
				err = entry(4).Apply(t.Context())
			} else {
				found, ofErr := s.Scope("").Of(t.Context(), entry(3).Mark)
				if ofErr != nil || len(found) != 1 {
					t.Errorf("%s: found %v, %v", name, found, ofErr)
				}
				err = found[0].Remove(t.Context())
			}
			if err != nil {
				t.Fatalf("%s: %s: %v", name, verb, err)
			}
			if got := seen(t, s, "c1"); !slices.Equal(got, want) {
				t.Errorf("%s, then %s: %q, want %q", name, verb, got, want)
			}
			if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) || after.Size() > 4096 {
				t.Errorf("%s, then %s: another file, or one of %d bytes", name, verb, after.Size())
			}
		}
	}
}

func replace(old, new string) func(path string) error {
	return func(path string) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, bytes.Replace(data, []byte(old), []byte(new), 1), 0)
	}
}

// A file that an earlier version has left has no seal, and is gone on with.
func TestHostsOfEarlierVersion(t *testing.T) {
	s := store(t)
	if err := (Entry{Store: s, Record: *record("a", "c1", "eth0", []string{"one"}, "10.0.0.1")}).Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.seals()); err != nil {
		t.Fatal(err)
	}
	e := Entry{Store: s, Record: *record("a", "c2", "eth0", []string{"two"}, "10.0.0.2")}
	if err := e.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := seen(t, s, "c1"); !slices.Equal(got, []string{"10.0.0.1\tone one.a", "10.0.0.2\ttwo two.a"}) {
		t.Errorf("%q", got)
	}
	if seal, _ := s.sealOf("a"); seal == "" {
		t.Error("it is not sealed")
	}
}

func (h *hosts) others(m owner.Mark) (out []string) {
	for l := range h.lines() {
		if l.mark != m {
			out = append(out, l.text)
		}
	}
	return out
}
