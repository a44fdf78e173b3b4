package zone

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/owner"
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
type hosts struct {
	file     *os.File
	networks []string
	lines    []line
	size     int64
}

const (
	maxLine = 400 // musl: 512
	grain   = 64  // lines are padded to a multiple, so that another fits later
)

// A line is one of the file that an attachment has, had or can have.
type line struct {
	at, length int64 // length with the final newline
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

// parseLines finds the lines of attachments; those of the header have no mark.
func parseLines(data []byte) []line {
	text := string(data) // once: lines are parts of it
	lines := make([]line, 0, len(text)/grain+1)
	for at := 0; at < len(text); {
		end := strings.IndexByte(text[at:], '\n')
		if end < 0 {
			end = len(text) - at // openHosts completes it
		}
		if l, ok := parseLine(text[at : at+end]); ok {
			l.at, l.length = int64(at), int64(end)+1
			lines = append(lines, l)
		}
		at += end + 1
	}
	return lines
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
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	data, err := readAll(f)
	networks := networksOf(data)
	if err == nil && networks == nil {
		err = fmt.Errorf("%s: %w", path, errNotWhole)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	h := &hosts{file: f, networks: networks}
	if data[len(data)-1] != '\n' { // one has died while writing
		err = h.write([]byte("\n"), int64(len(data)))
		data = append(data, '\n')
	}
	h.lines, h.size = parseLines(data), int64(len(data))
	return h, err
}

// whole reports whether there is a file, and its header is as it was written.
func whole(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	const enough = 512 + maxLine
	b := make([]byte, enough)
	n, _ := f.ReadAt(b, 0)
	return networksOf(b[:n]) != nil
}

// errNotWhole is for a file that somebody else has written over.
var errNotWhole = fmt.Errorf("not as dns-hosts writes it: %w", fs.ErrInvalid)

func readAll(f *os.File) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, st.Size())
	n, err := f.ReadAt(data, 0)
	if n == len(data) {
		err = nil
	}
	return data[:n], err
}

// add puts a line where there is room, else at the end.
func (h *hosts) add(m owner.Mark, text string) error {
	room := slices.IndexFunc(h.lines, func(l line) bool {
		return l.mark == "" && l.length >= int64(lineLength(m, text)) && l.length <= maxLine+grain
	})
	if room < 0 {
		h.lines = append(h.lines, line{at: h.size, length: int64(pad(lineLength(m, text)))})
		room = len(h.lines) - 1
		h.size += h.lines[room].length
	}
	l := &h.lines[room]
	l.mark, l.text, l.live = m, text, true
	b := l.render()
	first := b[0]
	b[0] = '#'
	return errors.Join(h.write(b, l.at), h.write([]byte{first}, l.at))
}

func lineLength(m owner.Mark, text string) int { return len(text) + len(" # ") + len(m) + 1 }

func pad(n int) int { return (n + grain - 1) / grain * grain }

// render is the line as it stands in the file.
func (l *line) render() []byte {
	b := bytes.Repeat([]byte(" "), int(l.length))
	copy(b, l.text+" # "+string(l.mark))
	b[len(b)-1] = '\n'
	return b
}

// drop takes the lines of an attachment away.
func (h *hosts) drop(m owner.Mark) error {
	var errs []error
	for i := range h.lines {
		l := &h.lines[i]
		if l.mark != m {
			continue
		}
		if l.live {
			errs = append(errs, h.write([]byte{'#'}, l.at))
		}
		errs = append(errs, h.write(bytes.Repeat([]byte(" "), int(l.length)-2), l.at+1))
		l.mark, l.text, l.live = "", "", false
	}
	return errors.Join(errs...)
}

func (h *hosts) write(b []byte, at int64) error {
	_, err := h.file.WriteAt(b, at)
	return err
}

// of returns the texts of the live lines of an attachment, sorted.
func (h *hosts) of(m owner.Mark) (out []string) {
	for _, l := range h.lines {
		if l.live && l.mark == m {
			out = append(out, l.text)
		}
	}
	slices.Sort(out)
	return out
}

// holder returns another container that has one of the names.
func (h *hosts) holder(m owner.Mark, names []string) (name string, who owner.Mark, held bool) {
	for _, l := range h.lines {
		if !l.live || l.mark.SameContainer(m) {
			continue
		}
		for _, n := range strings.Fields(l.text)[1:] {
			if slices.Contains(names, n) {
				return n, l.mark, true
			}
		}
	}
	return "", "", false
}

// wanted reports whether some container is on all of the networks, so that the
// file is its.
func (h *hosts) wanted() bool {
	on := map[string]map[string]bool{}
	for _, l := range h.lines {
		if !l.live {
			continue
		}
		c := l.mark.Container()
		if on[c] == nil {
			on[c] = map[string]bool{}
		}
		if on[c][networkOf(l.mark)] = true; len(on[c]) == len(h.networks) {
			return true
		}
	}
	return false
}

// networkOf is the part of a mark that its network's marks share.
func networkOf(m owner.Mark) string {
	network, _, _ := strings.Cut(string(m), "/")
	return network
}
