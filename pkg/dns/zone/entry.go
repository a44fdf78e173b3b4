package zone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// An Entry is a record, and what is made of it for people without a resolver:
// lines in the hosts files of its network, and the files of its container.
type Entry struct {
	Store
	Record
	// AnyServers leaves out of the comparison whom else to ask: CHECK cannot
	// always know what ADD was told.
	AnyServers bool

	netns string // the namespace's name for ip-netns(8), if it is known
}

// Key implements engine.Resource.
func (e Entry) Key() string { return "name record " + string(e.Mark) }

func (e Entry) String() string {
	if e.Names == nil { // found by its mark alone
		return "rm " + e.path(e.Mark)
	}
	var lines []string
	for _, text := range linesOf(&e.Record) {
		lines = append(lines, fmt.Sprintf("echo '%s' >> %s", strings.Replace(text, "\t", " ", 1), e.hosts(e.Mark.Network())))
	}
	return strings.Join(append(lines, fmt.Sprintf("echo '%s' > %s", e.encode(), e.path(e.Mark))), " ; ")
}

func (e Entry) encode() []byte {
	data, err := json.Marshal(e.Record)
	if err != nil { // no type of a Record can fail
		panic(err)
	}
	return data
}

// Observe implements engine.Resource.
func (e Entry) Observe(context.Context) (engine.Diff, error) {
	found, err := e.Read(e.Mark)
	if errors.Is(err, fs.ErrNotExist) {
		return engine.Absent, nil
	}
	if err != nil {
		return engine.Diff(fmt.Sprintf("%s: %v", e.path(e.Mark), err)), nil
	}
	if inode := inodeOf(e.Record.NetNS); !found.In(inode) {
		return engine.Diff(fmt.Sprintf("%s is of namespace %d, but %s is %d", e.path(e.Mark), found.NetNSInode, e.Record.NetNS, inode)), nil
	}
	if !found.whole() || !slices.ContainsFunc(found.parts(), e.same) {
		return engine.Diff(fmt.Sprintf("%s is not as ADD wrote it", e.path(e.Mark))), nil
	}
	e.Record = found
	return e.observeFiles()
}

// observeFiles compares what is made of the record.
func (e Entry) observeFiles() (engine.Diff, error) {
	files, err := e.hostsOf(e.Mark.Network())
	if err != nil {
		return engine.Same, err
	}
	own, err := e.MarksOf(e.Mark.Container())
	if err != nil {
		return engine.Same, err
	}
	files[hostsName(networksOn(own))] = nil
	for name := range files {
		if diff, err := e.observeHosts(name); err != nil || diff != engine.Same {
			return diff, err
		}
	}
	return e.observeContainerFiles(own)
}

func (e Entry) observeHosts(name string) (engine.Diff, error) {
	h, err := readHosts(e.hosts(name), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return engine.Diff(err.Error()), nil
	}
	if err != nil {
		return engine.Same, err
	}
	diff := engine.Differ(h.file.Name(), strings.Join(texts(h.of(e.Mark)), "; "), strings.Join(linesOf(&e.Record), "; "))
	seal, _ := e.sealOf(name)
	if h.networks() == nil || seal != h.seal() && (seal != "" || e.NetNSInode != 0) { // an earlier version made no seal
		diff = engine.First(diff, engine.Diff(fmt.Sprintf("%s, or its seal %s: %v", h.file.Name(), e.seal(name), errForeign)))
	}
	return diff, h.file.Close()
}

// Apply implements engine.Resource. The record comes first: what is made of it can
// be made again.
func (e Entry) Apply(ctx context.Context) error {
	unlock, err := e.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err = os.Lstat(e.path(e.Mark)); err == nil {
		return engine.ErrExists
	}
	if err = ignore(err); err != nil {
		return err
	}
	if err = e.refuseHeld(); err != nil {
		return err
	}
	if err = os.MkdirAll(e.container(e.Mark.Container()), 0o755); err != nil {
		return err
	}
	if e.NetNSInode == 0 {
		e.NetNSInode = inodeOf(e.Record.NetNS)
	}
	return e.enter()
}

// enter writes the record, and what is made of it.
func (e Entry) enter() error {
	container := e.Mark.Container()
	err := write(e.path(e.Mark), e.encode(), 0o600)
	if err == nil {
		err = e.touch(container)
	}
	if err == nil {
		err = e.publish(&e.Record)
	}
	if err != nil {
		return err
	}
	marks, err := e.MarksOf(container)
	if err != nil {
		return err
	}
	return e.writeFiles(container, marks, e.Record)
}

// refuseHeld fails if names are to be unique on the network, and one is not. Short
// IDs may be the same, as nobody has chosen them.
func (e Entry) refuseHeld() error {
	network := e.Mark.Network()
	if !e.Unique {
		return nil
	}
	if _, err := os.Stat(e.hosts(network)); errors.Is(err, fs.ErrNotExist) {
		if others, err := e.records([]string{network}); err != nil || len(others) == 0 {
			return err
		}
	}
	chosen := slices.DeleteFunc(slices.Clone(e.Names), func(n string) bool { return n == ShortID(e.ContainerID) })
	return e.edit(network, []string{network}, func(h *hosts) error {
		if name, who, held := h.holder(e.Mark, chosen); held {
			return &engine.HeldError{Object: fmt.Sprintf("name %q on network %q", name, e.Network), Holder: string(who)}
		}
		return nil
	})
}

// Remove implements engine.Resource. The record goes last, as it is by the record
// that the rest is found.
func (e Entry) Remove(ctx context.Context) error {
	if _, err := os.Stat(e.Root); errors.Is(err, fs.ErrNotExist) && e.netns == "" {
		return nil
	}
	unlock, err := e.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	container := e.Mark.Container()
	marks, err := e.MarksOf(container)
	marks = slices.DeleteFunc(marks, func(m owner.Mark) bool { return m == e.Mark })
	if len(marks) > 0 {
		err = errors.Join(err, e.writeFiles(container, marks))
	} else {
		err = errors.Join(err, e.removeFiles(container, e.netns))
	}
	err = errors.Join(err, e.retract(e.Mark), remove(e.path(e.Mark)), e.touch(container))
	if len(marks) == 0 {
		err = errors.Join(err, removeEmpty(e.container(container)))
	}
	return err
}

// removeEmpty deletes a directory, unless something is in it.
func removeEmpty(dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
		return err // fs.ErrExist: not empty
	}
	return nil
}
