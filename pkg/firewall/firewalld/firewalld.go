// Package firewalld tells firewalld of links, by D-Bus. Its rules reject what they
// do not know, and no rule in another table can overrule that.
package firewalld

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// firewalld's interface (https://firewalld.org/documentation/man-pages/firewalld.dbus.html).
const (
	name  = "org.fedoraproject.FirewallD1"
	path  = "/org/fedoraproject/FirewallD1"
	zones = name + ".zone."
)

// Running returns a requirement: that firewalld runs.
func Running() engine.Resource { return daemon{} }

type daemon struct{}

func (daemon) Key() string    { return "firewalld" }
func (daemon) String() string { return "systemctl start firewalld" }

// Observe asks the bus who runs, which starts nothing.
func (daemon) Observe(ctx context.Context) (engine.Diff, error) {
	var runs bool
	err := call(ctx, "org.freedesktop.DBus", "/", "org.freedesktop.DBus.NameHasOwner", &runs, name)
	if err != nil && !noBus(err) {
		return engine.Same, err
	}
	if !runs {
		return "firewalld does not run", nil
	}
	return engine.Same, nil
}

func (daemon) Apply(context.Context) error  { return nil }
func (daemon) Remove(context.Context) error { return nil }

// Interface puts a link into a zone, until firewalld ends or is reloaded: what is
// permanent is the administrator's. A link that is in a zone already, as he may have
// put it into another one, stays there.
func Interface(link, zone string) engine.Resource { return inZone{link, zone} }

type inZone struct{ link, zone string }

func (i inZone) Key() string { return "firewalld " + i.link }

func (i inZone) String() string {
	return fmt.Sprintf("firewall-cmd --zone=%s --add-interface=%s", i.zone, i.link)
}

func (i inZone) Observe(ctx context.Context) (engine.Diff, error) {
	var zone string
	if err := callZone(ctx, "getZoneOfInterface", &zone, i.link); err != nil {
		return engine.Same, err
	}
	if zone == "" {
		return engine.Diff("firewalld has " + i.link + " in no zone"), nil
	}
	return engine.Same, nil
}

// Apply looks first: adding a link to a second zone is an error of firewalld's.
func (i inZone) Apply(ctx context.Context) error {
	if diff, err := i.Observe(ctx); err != nil || diff == engine.Same {
		return err
	}
	var zone string
	return except(callZone(ctx, "addInterface", &zone, i.zone, i.link), "ZONE_ALREADY_SET", "ZONE_CONFLICT")
}

func (i inZone) Remove(ctx context.Context) error {
	var zone string
	return except(callZone(ctx, "removeInterface", &zone, "", i.link), "UNKNOWN_INTERFACE")
}

// except takes for success what firewalld calls one of the names: another process
// was faster. Its errors are of one kind, and their text begins with the name.
func except(err error, names ...string) error {
	var failed dbus.Error
	if errors.As(err, &failed) {
		for _, n := range names {
			if strings.HasPrefix(failed.Error(), n) {
				return nil
			}
		}
	}
	return err
}

func callZone(ctx context.Context, method string, result any, args ...any) error {
	return call(ctx, name, path, zones+method, result, args...)
}

// call calls a method on the system's bus. It must not start firewalld, which
// would cut the host off.
func call(ctx context.Context, service, object, method string, result any, args ...any) error {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("system bus: %w", err)
	}
	defer func() { _ = conn.Close() }()
	err = conn.Object(service, dbus.ObjectPath(object)).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...).Store(result)
	if err != nil {
		return fmt.Errorf("%s: %w", method[strings.LastIndex(method, ".")+1:], err)
	}
	return nil
}

func noBus(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED)
}
