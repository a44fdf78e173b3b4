package zone

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A hosts is a hosts(5) file of one network, or of the set of networks that some
// container is on. Runtimes mount it into containers, so it keeps its inode: it
// is changed in place, and at every moment a reader finds all lines of all live
// attachments. That is possible because a line is made and unmade by its first
// byte alone:
//
//	10.1.0.2\tweb web.net # net/c1/eth0            is there
//	#0.1.0.2\tweb web.net # net/c1/eth0            is not, yet or any more
//	#                                              is room for another
//
// A reader that comes between sees one or the other. Lines are added at the end, or in
// place of one that is no more; they are never moved, as a reader might miss them. A
// line has at most maxLine bytes, as musl cuts longer ones.
type hosts struct {
	file    *os.File
	data    []byte // all that is in it
	changed bool
}

const (
	maxLine  = 400      // musl: 512
	grain    = 64       // lines are padded to a multiple, so that another fits later
	maxHosts = 32 << 20 // bytes of a file; containers may be able to write to it
)

// A line is one of the file that an attachment has.
type line struct {
	at, length int // length without the final newline
	mark       owner.Mark
	text       string // address and names
}

// header is what every file begins with: what a container is to find anyway,
// and which networks the file is of.
func header(networks []string) string {
	return networksAre + strings.Join(networks, " ") + "\n" +
		"127.0.0.1\tlocalhost\n" +
		"::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
}

const networksAre = "# Written by dns-hosts, for containers on: "

// networks reads them from the header; none if that is not as it was written.
func (h *hosts) networks() []string {
	first, _, _ := bytes.Cut(h.data, []byte("\n"))
	list, ok := strings.CutPrefix(string(first), networksAre)
	networks := strings.Fields(list)
	if !ok || !bytes.HasPrefix(h.data, []byte(header(networks))) {
		return nil
	}
	return networks
}

// containing are the lines of attachments that have that text somewhere.
func (h *hosts) containing(text string) iter.Seq[line] {
	return func(yield func(line) bool) {
		for at := 0; ; {
			found := bytes.Index(h.data[at:], []byte(text))
			if found < 0 {
				return
			}
			start := bytes.LastIndexByte(h.data[:at+found], '\n') + 1
			length := bytes.IndexByte(h.data[start:], '\n')
			if length < 0 { // somebody has cut the last line
				return
			}
			l, ok := parseLine(string(h.data[start : start+length]))
			if l.at, l.length = start, length; ok && !yield(l) {
				return
			}
			at = start + length
		}
	}
}

// lines are all of attachments.
func (h *hosts) lines() iter.Seq[line] { return h.containing(" # ") }

// of are the lines of an attachment.
func (h *hosts) of(m owner.Mark) iter.Seq[line] {
	const fast = 60 // bytes that the standard library looks for with vector instructions
	text := "# " + string(m)
	return func(yield func(line) bool) {
		for l := range h.containing(text[:min(fast, len(text))]) {
			if l.mark == m && !yield(l) {
				return
			}
		}
	}
}

// parseLine is for a line that is there.
func parseLine(s string) (line, bool) {
	s = strings.TrimRight(s, " ")
	cut := strings.LastIndex(s, " # ") // an interface's name may have a '#', but no space
	if cut <= 0 || s[0] == '#' {
		return line{}, false
	}
	l := line{text: s[:cut], mark: owner.Mark(s[cut+len(" # "):])}
	return l, l.mark.Valid()
}

// add makes a line, in place of one that is no more and was as long or longer, else at
// the end.
func (h *hosts) add(m owner.Mark, text string) error {
	length := pad(m, text)
	for at := 0; ; {
		found := bytes.Index(h.data[at:], []byte("\n#"))
		if found < 0 {
			return h.put(len(h.data), length, m, text)
		}
		at += found + 1
		if room := bytes.IndexByte(h.data[at:], '\n') + 1; room >= length && room <= maxLine+grain {
			return h.put(at, room, m, text)
		}
	}
}

// pad returns the length of a line, with room for others that are a little longer.
func pad(m owner.Mark, text string) int {
	return (len(text) + len(" # ") + len(m) + 1 + grain - 1) / grain * grain
}

// put writes a line of that length.
func (h *hosts) put(at, length int, m owner.Mark, text string) error {
	b := bytes.Repeat([]byte(" "), length)
	copy(b, text+" # "+string(m))
	b[0], b[length-1] = '#', '\n'
	return errors.Join(h.write(b, at), h.write([]byte{text[0]}, at))
}

// drop takes lines away.
func (h *hosts) drop(lines iter.Seq[line]) error {
	var errs []error
	for l := range lines {
		errs = append(errs, h.write([]byte{'#'}, l.at), h.write(bytes.Repeat([]byte(" "), l.length-1), l.at+1))
	}
	return errors.Join(errs...)
}

// write changes the file at a place, or adds to it at the end.
func (h *hosts) write(b []byte, at int) error {
	h.changed = true
	if more := at + len(b) - len(h.data); more > 0 {
		h.data = append(h.data, make([]byte, more)...)
	}
	copy(h.data[at:], b)
	if h.file == nil { // not yet
		return nil
	}
	_, err := h.file.WriteAt(b, int64(at))
	return err
}

// readHosts reads a file, whatever is in it.
func readHosts(path string, flags int) (*hosts, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() > maxHosts) {
		err = fmt.Errorf("%s: %s of %d bytes: %w", path, st.Mode().Type(), st.Size(), errForeign)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	h := &hosts{file: f, data: make([]byte, st.Size())}
	if _, err = f.ReadAt(h.data, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(err, f.Close())
	}
	return h, nil
}

// errForeign is for a file that somebody else has written to.
var errForeign = fmt.Errorf("not as dns-hosts has written it: %w", fs.ErrInvalid)

// seal is what tells a file as it was left from one that somebody has written to, such
// as a container that has it mounted and may write.
func (h *hosts) seal() string {
	sum := sha256.Sum256(h.data)
	return hex.EncodeToString(sum[:])
}

// linesOf renders what a hosts file says of a record, sorted: in the file the
// lines stand where there was room.
func linesOf(r *Record) (out []string) {
	for _, a := range r.Addrs {
		for _, names := range chunks(r.hostNames(), maxLine-len(a.String())-len(r.Mark)-5) {
			out = append(out, a.String()+"\t"+names)
		}
	}
	slices.Sort(out)
	return out
}

// hostNames are the names of a record in hosts files. A short ID that is not the
// only name is there once: it is for people.
func (r *Record) hostNames() []string {
	all, id := r.qualified(), ShortID(r.ContainerID)
	if r.Names[0] == id {
		return all
	}
	return slices.DeleteFunc(all, func(n string) bool { return strings.HasPrefix(n, id+".") })
}

// chunks joins words to lines of at most limit bytes, or of one word.
func chunks(words []string, limit int) (out []string) {
	var now string
	for _, w := range words {
		if now != "" && len(now)+1+len(w) > limit {
			out, now = append(out, now), ""
		}
		now = strings.TrimLeft(now+" "+w, " ")
	}
	if now != "" {
		out = append(out, now)
	}
	return out
}

// texts returns those of some lines, sorted.
func texts(lines iter.Seq[line]) (out []string) {
	for l := range lines {
		out = append(out, l.text)
	}
	slices.Sort(out)
	return out
}

// holder returns another container that has one of the names.
func (h *hosts) holder(m owner.Mark, names []string) (name string, who owner.Mark, held bool) {
	for _, name := range names {
		for l := range h.containing(name) {
			if !l.mark.SameContainer(m) && slices.Contains(strings.Fields(l.text)[1:], name) {
				return name, l.mark, true
			}
		}
	}
	return "", "", false
}

// wanted reports whether some container is on all of these networks, so that the file
// is its.
func (h *hosts) wanted(networks []string) bool {
	on := map[string]map[string]bool{}
	for l := range h.lines() {
		c := l.mark.Container()
		if on[c] == nil {
			on[c] = map[string]bool{}
		}
		if on[c][l.mark.Network()] = true; len(on[c]) == len(networks) {
			return true
		}
	}
	return false
}
