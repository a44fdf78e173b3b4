package link

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
)

// A Use is the record of an attachment whose link stands on a link of the host:
// where it is and what it shares with others. It is what DEL finds the rest by,
// and what tells the last user of a shared link that it is the last.
//
// On disk it is symbolic links, which appear whole or not at all:
//
//	/run/dockyard/parents/users/<mark>              number of the namespace, links, addresses, and the host's
//	/run/dockyard/parents/links/<link>/<how>/<mark> who shares the link, and how
//	/run/dockyard/parents/links/<link>/made         there if the link was made for its users
type Use struct {
	Mark   owner.Mark
	NS     *netns.NS // the container's
	Driver Driver
	Links  []Shared // the parent last, before it what it stands on
	// Host is the link by which the host is on the network, nil if it is not;
	// Addrs are the addresses of the container that it has a route to by it.
	// Remove deletes these routes, too, and the neighbors.
	Host  *Shared
	Addrs []netip.Addr
}

// all are the links in the order in which they stand on one another.
func (u Use) all() []Shared {
	if u.Host == nil {
		return u.Links
	}
	return append(slices.Clone(u.Links), *u.Host)
}

const (
	usesDir  = "/run/dockyard/parents"
	usersDir = usesDir + "/users"
	linksDir = usesDir + "/links"
	madeName = "made" // no mark: those have colons
)

// Key implements engine.Resource.
func (u Use) Key() string { return "use " + u.file() }

func (u Use) String() string {
	if u.NS == nil { // one that the scope found
		return "rm " + u.file()
	}
	s := ""
	for _, l := range u.all() {
		if made := l.String(); made != "" {
			s += fmt.Sprintf("ip link show %s || %s ; ", named(l.Name), made)
		}
	}
	r := u.record("$NETNSID")
	if u.Host != nil {
		r.host = []string{"$HOST"}
	}
	return s + fmt.Sprintf("ln -s %q %s", r.text(), u.file())
}

// file is the name of the record; a mark has slashes, and nothing in it colons.
func (u Use) file() string { return filepath.Join(usersDir, fileName(u.Mark)) }

func fileName(m owner.Mark) string { return strings.ReplaceAll(string(m), "/", ":") }

// A record is the text of a Use.
type record struct {
	id    string
	links []string
	addrs []string
	host  []string // with addrs, the addresses of the host on the parent
}

func (u Use) record(id string) record {
	r := record{id: id}
	for _, l := range u.all() {
		r.links = append(r.links, named(l.Name))
	}
	for _, a := range u.Addrs {
		r.addrs = append(r.addrs, a.String())
	}
	return r
}

func (r record) text() string {
	return strings.TrimRight(strings.Join([]string{
		r.id, strings.Join(r.links, ","), strings.Join(r.addrs, ","), strings.Join(r.host, ","),
	}, " "), " ")
}

// read returns the record of an attachment, and whether there is one.
func read(m owner.Mark) (r record, found bool, err error) {
	text, err := os.Readlink(filepath.Join(usersDir, fileName(m)))
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	fields := append(strings.Split(text, " "), "", "", "")
	r.id = fields[0]
	for i, to := range []*[]string{&r.links, &r.addrs, &r.host} {
		if fields[i+1] != "" {
			*to = strings.Split(fields[i+1], ",")
		}
	}
	return r, err == nil, err
}

// netns returns the number of the container's namespace.
func (r record) netns() int {
	if id, err := strconv.Atoi(r.id); err == nil {
		return id
	}
	return -1 // none
}

// ParentOf returns the name of the parent that ADD chose for an attachment,
// empty if there is no record of it.
func ParentOf(m owner.Mark) (string, error) {
	r, _, err := read(m)
	if len(r.addrs) > 0 { // the last is the host's own
		r.links = r.links[:len(r.links)-1]
	}
	if len(r.links) == 0 {
		return "", err
	}
	return r.links[len(r.links)-1], err
}

// Observe implements engine.Resource.
func (u Use) Observe(ctx context.Context) (engine.Diff, error) {
	id, err := u.NS.ID()
	if err != nil {
		return engine.Same, err
	}
	found, ok, err := read(u.Mark)
	if err != nil || !ok {
		return engine.Absent, err
	}
	want := u.record(strconv.Itoa(id))
	want.host = found.host // as it was
	diff := engine.Differ("record", found.text(), want.text())
	for _, l := range u.all() {
		made, err := there(filepath.Join(linksDir, l.Name, madeName))
		if err != nil {
			return engine.Same, err
		}
		if made && diff == engine.Same {
			if diff, err = l.observe(ctx); err != nil {
				return engine.Same, err
			}
		}
	}
	return diff, nil
}

// Apply implements engine.Resource. The record comes first, so that a DEL after
// a kill finds all the rest.
func (u Use) Apply(ctx context.Context) error {
	id, err := u.NS.ID()
	if err != nil {
		return err
	}
	unlock, err := lockUses(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r := u.record(strconv.Itoa(id))
	if u.Host != nil {
		if r.host, err = hostAddrs(u.Host.Parent); err != nil {
			return err
		}
	}
	if err := os.Symlink(r.text(), u.file()); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", u.file(), engine.ErrExists)
	} else if err != nil {
		return err
	}
	for i, l := range u.all() {
		how := under
		if i == len(u.Links)-1 {
			how = u.Driver.sharing()
		}
		if err := u.join(ctx, l, how); err != nil {
			return err
		}
	}
	return nil
}

// Remove implements engine.Resource. The record goes last.
func (u Use) Remove(ctx context.Context) error {
	r, found, err := read(u.Mark)
	if err != nil || !found {
		return err
	}
	unlock, err := lockUses(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	errs := []error{r.unroute(ctx)}
	for _, name := range slices.Backward(r.links) {
		errs = append(errs, leave(name, u.Mark))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return ignoreMissing(os.Remove(u.file()))
}

// unroute deletes the host's routes to the container, and what it knows of it as
// a neighbor.
func (r record) unroute(ctx context.Context) error {
	var errs []error
	for _, a := range r.addrs {
		link := r.links[len(r.links)-1]
		addr, err := netip.ParseAddr(a)
		if err == nil {
			err = errors.Join(HostRoute(link, addr).Remove(ctx),
				Neighbors{NS: netns.Host(), Link: link, Addrs: []netip.Addr{addr}}.Remove(ctx))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// HostRoute is the host's route to an address of a container.
func HostRoute(link string, addr netip.Addr) route.Route {
	return route.Route{NS: netns.Host(), Link: link, Dst: netip.PrefixFrom(addr, addr.BitLen())}
}
