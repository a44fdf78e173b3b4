package zone

import (
	"bytes"
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

// hostsOf lists the hosts files that have the names of a network, and the networks of
// each: as many as there are sets of networks that some container is on, however many
// containers.
func (s Store) hostsOf(network string) (files map[string][]string, err error) {
	files = map[string][]string{}
	var names []string
	for _, path := range []string{s.hostsDir(), s.seals()} { // either may be left alone
		dir, openErr := os.Open(path)
		if openErr != nil {
			err = errors.Join(err, ignore(openErr))
			continue
		}
		found, readErr := dir.Readdirnames(-1)
		names, err = append(names, found...), errors.Join(err, readErr, dir.Close())
	}
	for _, name := range names {
		if name != network && !strings.Contains(name, "+") {
			continue
		}
		if networks := s.networksOf(name); slices.Contains(networks, network) {
			files[name] = networks
		}
	}
	return files, err
}

// networksOf are the networks of a hosts file, which its seal names. A file of an earlier
// version has no seal: its name tells them, or where that is a hash a header that fits.
func (s Store) networksOf(name string) []string {
	if _, networks := s.sealOf(name); networks != nil {
		return networks
	}
	if h, err := readHosts(s.hosts(name), os.O_RDONLY); err == nil && name[0] == '+' {
		defer func() { _ = h.file.Close() }()
		if networks := h.networks(); hostsName(networks) == name {
			return networks
		}
	}
	return strings.Split(name, "+")
}

// sealOf reads the seal of a hosts file, and the networks that stand beside it. It is in
// a file of its own, which no container has.
func (s Store) sealOf(name string) (seal string, networks []string) {
	data, err := os.ReadFile(s.seal(name))
	words := strings.Fields(string(data))
	if err != nil || len(words) < 2 {
		return "", nil
	}
	return words[0], words[1:]
}

func ignore(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// edit opens the hosts file of these networks, made from the records if it is not there
// or somebody else has written to it, and seals it after f.
func (s Store) edit(name string, networks []string, f func(*hosts) error) error {
	h, err := readHosts(s.hosts(name), os.O_RDWR)
	if err == nil && !s.intact(name, networks, h) {
		err = errors.Join(errForeign, h.file.Close())
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		h, err = s.render(name, networks)
	}
	if err != nil {
		return err
	}
	if err = f(h); h.changed {
		text := h.seal() + " " + strings.Join(networks, " ") + "\n"
		err = errors.Join(err, os.MkdirAll(s.seals(), 0o700), os.WriteFile(s.seal(name), []byte(text), 0o600))
	}
	return errors.Join(err, h.file.Close())
}

// intact reports whether a hosts file is as it was left. Of one that an earlier version
// has left, only that its header is.
func (s Store) intact(name string, networks []string, h *hosts) bool {
	if seal, _ := s.sealOf(name); seal != "" {
		return seal == h.seal()
	}
	return slices.Equal(h.networks(), networks) && bytes.HasSuffix(h.data, []byte("\n"))
}

// render writes the hosts file of these networks from their records, in place
// if there is one: it may be mounted.
func (s Store) render(name string, networks []string) (*hosts, error) {
	records, err := s.records(networks)
	if err != nil {
		return nil, err
	}
	data, path := Hosts(networks, records), s.hosts(name)
	if st, statErr := os.Lstat(path); statErr != nil || !st.Mode().IsRegular() {
		if err = write(path, data, 0o644); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	h := &hosts{file: f}
	if err := errors.Join(h.write(data, 0), f.Truncate(int64(len(data)))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return h, nil
}

// Hosts renders a hosts file for containers on these networks.
func Hosts(networks []string, records []Record) []byte {
	h := &hosts{data: []byte(header(networks))}
	for i := range records {
		for _, text := range linesOf(&records[i]) {
			m := records[i].Mark
			_ = h.put(len(h.data), pad(m, text), m, text) // without a file there is no error
		}
	}
	return h.data
}

// publish enters a record, which is on disk, into the hosts files of its network.
func (s Store) publish(r *Record) error {
	files, err := s.hostsOf(r.Mark.Network())
	if err != nil {
		return err
	}
	files[r.Mark.Network()] = []string{r.Mark.Network()}
	for name, networks := range files {
		err = errors.Join(err, s.edit(name, networks, func(h *hosts) error { return h.enter(r) }))
	}
	return err
}

// enter adds the lines of a record that are not there, and then takes others away that
// its attachment has.
func (h *hosts) enter(r *Record) error {
	want, found := linesOf(r), slices.Collect(h.of(r.Mark))
	if slices.Equal(texts(slices.Values(found)), want) {
		return nil
	}
	for _, text := range want {
		if err := h.add(r.Mark, text); err != nil {
			return err
		}
	}
	return h.drop(slices.Values(found))
}

// retract takes the lines of an attachment out of all hosts files of its network,
// and the files away that are no container's any more.
func (s Store) retract(m owner.Mark) error {
	files, err := s.hostsOf(m.Network())
	for name, networks := range files {
		wanted := false
		editErr := s.edit(name, networks, func(h *hosts) error {
			dropErr := h.drop(h.of(m))
			wanted = h.wanted(networks)
			return dropErr
		})
		if err = errors.Join(err, editErr); editErr == nil && !wanted {
			// In this order: by the file a DEL that follows on one that was killed finds both.
			err = errors.Join(err, remove(s.seal(name)), remove(s.hosts(name)))
		}
	}
	return err
}
