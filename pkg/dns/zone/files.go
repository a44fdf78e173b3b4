package zone

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// The resolver's address inside each container: Docker's.
const Resolver = "127.0.0.11"

// Each container has two files that a runtime may mount, and that ip-netns(8)
// finds if it is to: hosts, a link to the file of the networks that the
// container is on, and resolv.conf.
const (
	hostsFile  = "hosts"
	resolvFile = "resolv.conf"
	netnsLink  = "netns" // to where ip-netns(8) has links to the others
)

// writeFiles makes the files of a container that has these attachments. Records that
// have just been written are not read.
func (s Store) writeFiles(container string, marks []owner.Mark, written ...Record) error {
	dir := s.container(container)
	name := hostsName(networksOn(marks))
	if err := s.edit(name, networksOn(marks), func(*hosts) error { return nil }); err != nil {
		return err
	}
	if err := link(filepath.Join("../../hosts", name), filepath.Join(dir, hostsFile), filepath.Join(dir, fresh)); err != nil {
		return err
	}
	records, err := s.known(marks, written...)
	if err != nil {
		return err
	}
	if err := write(filepath.Join(dir, resolvFile), ResolvConf(records), 0o644); err != nil {
		return err
	}
	for _, ns := range netnsNames(records) {
		if err := s.linkForNetNS(container, ns); err != nil {
			return err
		}
	}
	return nil
}

// known reads the records of those attachments that have a good one, but for those
// at hand. A file that is no record is passed over: CHECK of its owner tells.
func (s Store) known(marks []owner.Mark, atHand ...Record) (records []Record, err error) {
	for _, m := range marks {
		if i := slices.IndexFunc(atHand, func(r Record) bool { return r.Mark == m }); i >= 0 {
			records = append(records, atHand[i])
			continue
		}
		r, readErr := s.Read(m)
		if readErr == nil {
			records = append(records, r)
		} else if io := new(fs.PathError); errors.As(readErr, &io) {
			err = errors.Join(err, ignore(readErr))
		}
	}
	return records, err
}

func netnsNames(records []Record) (names []string) {
	for _, r := range records {
		if r.NetNSName != "" && !slices.Contains(names, r.NetNSName) {
			names = append(names, r.NetNSName)
		}
	}
	return names
}

// link makes a symbolic link, or leads one elsewhere at once.
func link(target, path, temp string) error {
	if err := os.Symlink(target, path); !errors.Is(err, fs.ErrExist) {
		return err
	}
	if found, err := os.Readlink(path); err == nil && found == target {
		return nil
	}
	if err := remove(temp); err != nil {
		return err
	}
	if err := os.Symlink(target, temp); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, remove(temp))
	}
	return nil
}

// ResolvConf is the resolv.conf(5) of a container with these attachments.
func ResolvConf(records []Record) []byte {
	var search, options []string
	for _, r := range records {
		for _, s := range r.Search {
			if !slices.Contains(search, s) {
				search = append(search, s)
			}
		}
		for _, o := range r.Options {
			key, _, _ := strings.Cut(o, ":")
			if !slices.ContainsFunc(options, func(p string) bool { return p == key || strings.HasPrefix(p, key+":") }) {
				options = append(options, o)
			}
		}
	}
	text := "# Written by dns-hosts.\nnameserver " + Resolver + "\n"
	for _, line := range [][]string{append([]string{"search"}, search...), append([]string{"options"}, options...)} {
		if len(line) > 1 {
			text += strings.Join(line, " ") + "\n"
		}
	}
	return []byte(text)
}

// linkForNetNS links the files of a container to where ip-netns(8) looks for those of
// the namespace of that name. A file that somebody else has put there stays.
func (s Store) linkForNetNS(container, ns string) error {
	dir, own := filepath.Join(s.NetNS, ns), s.container(container)
	if err := link(dir, filepath.Join(own, netnsLink), filepath.Join(own, fresh)); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, file := range []string{hostsFile, resolvFile} {
		err := os.Symlink(filepath.Join(s.container(container), file), filepath.Join(dir, file))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// unlinkForNetNS takes away what linkForNetNS has made.
func (s Store) unlinkForNetNS(container, dir string) error {
	var errs []error
	for _, file := range []string{hostsFile, resolvFile} {
		if s.linkedForNetNS(container, dir, file) {
			errs = append(errs, remove(filepath.Join(dir, file)))
		}
	}
	return errors.Join(append(errs, removeEmpty(dir))...)
}

func (s Store) linkedForNetNS(container, dir, file string) bool {
	target, err := os.Readlink(filepath.Join(dir, file))
	return err == nil && target == filepath.Join(s.container(container), file)
}

// removeFiles takes the files of a container away that has no attachment any more.
// Where the link to those for ip-netns(8) is lost, the namespace's name helps.
func (s Store) removeFiles(container, ns string) (err error) {
	dir, readErr := os.Readlink(filepath.Join(s.container(container), netnsLink))
	if readErr != nil && ns != "" {
		dir, readErr = filepath.Join(s.NetNS, ns), nil
	}
	if readErr == nil {
		err = s.unlinkForNetNS(container, dir)
	}
	for _, file := range []string{hostsFile, resolvFile, fresh, netnsLink} {
		err = errors.Join(err, remove(filepath.Join(s.container(container), file)))
	}
	return err
}

// observeContainerFiles compares the files of a container that has these attachments.
func (s Store) observeContainerFiles(marks []owner.Mark) (engine.Diff, error) {
	dir := s.container(marks[0].Container())
	target, err := os.Readlink(filepath.Join(dir, hostsFile))
	if err != nil {
		target = err.Error()
	}
	diff := engine.Differ(filepath.Join(dir, hostsFile), target, filepath.Join("../../hosts", hostsName(networksOn(marks))))
	records, err := s.known(marks)
	if err != nil {
		return engine.Same, err
	}
	found, err := os.ReadFile(filepath.Join(dir, resolvFile))
	if err != nil || string(found) != string(ResolvConf(records)) {
		diff = engine.First(diff, engine.Diff(fmt.Sprintf("%s is not as ADD wrote it", filepath.Join(dir, resolvFile))))
	}
	for _, ns := range netnsNames(records) {
		for _, path := range []string{filepath.Join(dir, netnsLink), filepath.Join(s.NetNS, ns, hostsFile), filepath.Join(s.NetNS, ns, resolvFile)} {
			if _, err := os.Lstat(path); err != nil {
				diff = cmp.Or(diff, engine.Diff(err.Error()))
			}
		}
	}
	return diff, nil
}
