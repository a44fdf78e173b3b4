package zone

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// hostsName is the name of the file for containers on these networks.
func hostsName(networks []string) string {
	const limit = 200 // of 255
	name := strings.Join(networks, "+")
	if len(name) > limit {
		sum := sha256.Sum256([]byte(name))
		name = "+" + hex.EncodeToString(sum[:16])
	}
	return name
}

// books lists the hosts files that have the names of a network: as many as there
// are sets of networks that some container is on, however many containers.
func (s Store) books(network string) (names []string, err error) {
	dir, err := os.Open(s.hostsDir())
	if err != nil {
		return nil, ignore(err)
	}
	defer func() { _ = dir.Close() }()
	all, err := dir.Readdirnames(-1)
	for _, name := range all {
		if name == network || strings.Contains(name, "+") && s.covers(name, network) {
			names = append(names, name)
		}
	}
	return names, err
}

func ignore(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// covers reports whether a file of several networks is also of this one. One
// that does not say so any more is of those that its name tells.
func (s Store) covers(name, network string) bool {
	data, err := os.ReadFile(s.hosts(name))
	networks := networksOf(data)
	if err != nil || networks == nil {
		networks = strings.Split(name, "+")
	}
	return slices.Contains(networks, network)
}

// edit opens a hosts file, made from the records if it is not there or not
// whole, and closes it after f.
func (s Store) edit(name string, f func(*hosts) error) error {
	h, err := openHosts(s.hosts(name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		if err = s.render(strings.Split(name, "+")); err == nil {
			h, err = openHosts(s.hosts(name))
		}
	}
	if err != nil {
		return err
	}
	return errors.Join(f(h), h.file.Close())
}

// render writes the hosts file of these networks from their records, in place
// if there is one: it may be mounted.
func (s Store) render(networks []string) error {
	records, err := s.records(networks)
	if err != nil {
		return err
	}
	data := Hosts(networks, records)
	path := s.hosts(hostsName(networks))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return write(path, data, 0o644)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	return errors.Join(err, f.Truncate(int64(len(data))), f.Close())
}

// Hosts renders a hosts file for containers on these networks.
func Hosts(networks []string, records []Record) []byte {
	out := []byte(header(networks))
	for i := range records {
		for _, text := range linesOf(&records[i]) {
			m := records[i].Mark
			l := line{length: pad(lineLength(m, text)), mark: m, text: text}
			out = append(out, l.render()...)
		}
	}
	return out
}

// publish enters a record, which is on disk, into the hosts files of its network.
func (s Store) publish(r *Record) error {
	names, err := s.books(r.Mark.Network())
	if err != nil {
		return err
	}
	if own := r.Mark.Network(); !slices.Contains(names, own) {
		names = append(names, own)
	}
	for _, name := range names {
		err = errors.Join(err, s.edit(name, func(h *hosts) error { return h.enter(r) }))
	}
	return err
}

// enter adds the lines of a record that are not there, and takes others away that
// its attachment has.
func (h *hosts) enter(r *Record) error {
	want, found := linesOf(r), slices.Collect(h.of(r.Mark))
	if slices.Equal(texts(slices.Values(found)), want) {
		return nil
	}
	if err := h.drop(found); err != nil {
		return err
	}
	for _, text := range want {
		if err := h.add(r.Mark, text); err != nil {
			return err
		}
	}
	return nil
}

// retract takes the lines of an attachment out of all hosts files of its network,
// and the files away that are no container's any more.
func (s Store) retract(m owner.Mark) error {
	names, err := s.books(m.Network())
	for _, name := range names {
		err = errors.Join(err, s.edit(name, func(h *hosts) error {
			dropErr := h.drop(slices.Collect(h.of(m)))
			if dropErr == nil && !h.wanted() {
				return remove(s.hosts(name))
			}
			return dropErr
		}))
	}
	return err
}
