package zone

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

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
// A reader that comes between sees one or the other. A line has at most maxLine
// bytes, as musl cuts longer ones.
//
// Nothing here takes the file apart as a whole: ADD and DEL look for a mark or for
// room as memchr(3) would, which costs microseconds for a thousand lines.
type hosts struct {
	file     *os.File
	text     io.ReaderAt // the file
	size     int
	networks []string
	window   []byte
}

const (
	maxLine = 400 // musl: 512
	grain   = 64  // lines are padded to a multiple, so that another fits later

	windowSize = 32 << 10
)

// A line is one of the file that an attachment has, had or can have.
type line struct {
	at, length int // length with the final newline
	live       bool
	mark       owner.Mark // "" where there is room
	text       string     // address and names
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

// networksOf reads the networks of a file from its header; none if that is not
// as it was written.
func networksOf(data []byte) []string {
	first, _, _ := bytes.Cut(data, []byte("\n"))
	list, ok := strings.CutPrefix(string(first), networksAre)
	networks := strings.Fields(list)
	if !ok || !bytes.HasPrefix(data, []byte(header(networks))) {
		return nil
	}
	return networks
}

// containing are the lines that have that text somewhere.
func (h *hosts) containing(text string) iter.Seq[line] {
	return func(yield func(line) bool) {
		for off, done := 0, 0; ; off += len(h.window) - len(text) + 1 {
			n := h.read(h.window, off)
			for i := 0; i < n; {
				found := bytes.Index(h.window[i:n], []byte(text))
				if found < 0 {
					break
				}
				at := off + i + found + 1 // text may begin with the newline before
				i += found + 1
				if at < done {
					continue
				}
				l, ok := h.line(at)
				if ok && !yield(l) {
					return
				}
				done = l.at + l.length
			}
			if n < len(h.window) {
				return
			}
		}
	}
}

// line is the one that the byte at that place belongs to. One that no attachment
// has or can have is not ok.
func (h *hosts) line(at int) (line, bool) {
	const reach = maxLine + maxName + owner.MaxMark // of a line of ours, even of one name alone
	var buf [2 * reach]byte
	from := max(0, at-reach)
	b := buf[:h.read(buf[:], from)]
	start := bytes.LastIndexByte(b[:at-from], '\n') + 1
	length := bytes.IndexByte(b[start:], '\n')
	if length < 0 {
		length = len(b) - start // openHosts completes the last
	}
	l, ok := parseLine(string(b[start : start+length]))
	l.at, l.length = from+start, length+1
	return l, ok && length < reach
}

// read returns how many bytes are there, no more than b has room for. Where
// reading fails there are none: in the worst case a line is written twice.
func (h *hosts) read(b []byte, at int) int {
	n, _ := h.text.ReadAt(b, int64(at))
	return n
}

// lines are all of attachments.
func (h *hosts) lines() iter.Seq[line] { return h.containing(" # ") }

// of are the lines of an attachment, live or not.
func (h *hosts) of(m owner.Mark) iter.Seq[line] {
	const fast = 60                                // bytes that the standard library looks for with vector instructions
	text := "/" + m.Container() + "/" + m.IfName() // a byte that is rare, unlike the space before the mark
	return func(yield func(line) bool) {
		for l := range h.containing(text[:min(fast, len(text))]) {
			if l.mark == m && !yield(l) {
				return
			}
		}
	}
}

// room returns where a line of so many bytes can stand: a line without a mark, or
// the end.
func (h *hosts) room(n int) line {
	for l := range h.containing("\n#      ") {
		if l.mark == "" && l.length >= n && l.length <= maxLine+grain {
			return l
		}
	}
	return line{at: h.size, length: pad(n)}
}

func parseLine(s string) (line, bool) {
	if s != "" && s[0] == '#' && strings.TrimRight(s[1:], " ") == "" {
		return line{}, true
	}
	s = strings.TrimRight(s, " ")
	cut := strings.LastIndexByte(s, '#') // an interface's name may have one
	for cut > 0 && (s[cut-1] != ' ' || cut+1 == len(s) || s[cut+1] != ' ') {
		cut = strings.LastIndexByte(s[:cut], '#')
	}
	if cut <= 1 {
		return line{}, false
	}
	mark := owner.Mark(s[cut+2:])
	if !mark.Valid() {
		return line{}, false
	}
	return line{live: s[0] != '#', mark: mark, text: s[:cut-1]}, true
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

// openHosts opens a file, whose header tells that it is whole.
func openHosts(path string) (*hosts, error) {
	h, err := peekHosts(path, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	var last [1]byte
	if h.networks = networksOf(h.window[:h.read(h.window, 0)]); h.networks == nil {
		err = fmt.Errorf("%s: %w", path, errNotWhole)
	} else if h.read(last[:], h.size-1) == 1 && last[0] != '\n' { // one has died while writing
		err = h.write([]byte("\n"), h.size)
	}
	if err != nil {
		return nil, errors.Join(err, h.file.Close())
	}
	return h, nil
}

// peekHosts opens a file whatever is in it.
func peekHosts(path string, flags int) (*hosts, error) {
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &hosts{file: f, text: f, size: int(st.Size()), window: make([]byte, windowSize)}, nil
}

// whole reports whether there is a file, and its header is as it was written.
func whole(path string) bool {
	h, err := openHosts(path)
	return err == nil && h.file.Close() == nil
}

// errNotWhole is for a file that somebody else has written over.
var errNotWhole = fmt.Errorf("not as dns-hosts writes it: %w", fs.ErrInvalid)

// add puts a line where there is room, else at the end.
func (h *hosts) add(m owner.Mark, text string) error {
	l := h.room(lineLength(m, text))
	l.mark, l.text = m, text
	b := l.render()
	first := b[0]
	b[0] = '#'
	return errors.Join(h.write(b, l.at), h.write([]byte{first}, l.at))
}

func lineLength(m owner.Mark, text string) int { return len(text) + len(" # ") + len(m) + 1 }

func pad(n int) int { return (n + grain - 1) / grain * grain }

// render is the line as it stands in the file.
func (l *line) render() []byte {
	b := bytes.Repeat([]byte(" "), l.length)
	copy(b, l.text+" # "+string(l.mark))
	b[len(b)-1] = '\n'
	return b
}

// drop takes lines away.
func (h *hosts) drop(lines []line) error {
	var errs []error
	for _, l := range lines {
		if l.live {
			errs = append(errs, h.write([]byte{'#'}, l.at))
		}
		errs = append(errs, h.write(bytes.Repeat([]byte(" "), l.length-2), l.at+1))
	}
	return errors.Join(errs...)
}

// write changes the file at a place, or adds to it at the end.
func (h *hosts) write(b []byte, at int) error {
	h.size = max(h.size, at+len(b))
	_, err := h.file.WriteAt(b, int64(at))
	return err
}

// texts returns those of the live ones of some lines, sorted.
func texts(lines iter.Seq[line]) (out []string) {
	for l := range lines {
		if l.live {
			out = append(out, l.text)
		}
	}
	slices.Sort(out)
	return out
}

// holder returns another container that has one of the names.
func (h *hosts) holder(m owner.Mark, names []string) (name string, who owner.Mark, held bool) {
	for _, name := range names {
		for l := range h.containing(name) {
			if l.live && !l.mark.SameContainer(m) && slices.Contains(strings.Fields(l.text)[1:], name) {
				return name, l.mark, true
			}
		}
	}
	return "", "", false
}

// wanted reports whether some container is on all of the networks, so that the
// file is its.
func (h *hosts) wanted() bool {
	on := map[string]map[string]bool{}
	for l := range h.lines() {
		if !l.live {
			continue
		}
		c := l.mark.Container()
		if on[c] == nil {
			on[c] = map[string]bool{}
		}
		if on[c][l.mark.Network()] = true; len(on[c]) == len(h.networks) {
			return true
		}
	}
	return false
}
