package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/host"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

func (a *app) run() *cobra.Command {
	var t attaching
	var networks []string
	name := fmt.Sprintf("run-%d", os.Getpid())
	c := &cobra.Command{
		Use: "run --network NETWORK [OPTIONS] -- COMMAND [ARG...]", Short: "Run a command on a network, to try it", Args: arguments(1, -1),
		Long: `Run a command of this host in a namespace of its own that is attached to networks. The
namespace goes with the command.`,
		Example: `  dockyard run --network app --name web -p 8080:80 -- python3 -m http.server 80
  dockyard run --network app -- ping -c1 web`,
		RunE: func(c *cobra.Command, args []string) error {
			o, err := t.options(c)
			if err != nil {
				return split(err)
			}
			if len(networks) == 0 {
				return errors.New("want --network NETWORK, one or more")
			}
			return a.runOn(c, name, networks, o, args)
		},
	}
	t.add(c)
	c.Flags().StringArrayVar(&networks, "network", nil, "the network; it can be given more than once")
	c.Flags().StringVar(&name, "name", name, "the name on the network")
	_ = c.RegisterFlagCompletionFunc("network", a.completeNetworks) // fails for no flag that is there
	return c
}

func (a *app) runOn(c *cobra.Command, name string, networks []string, o host.Options, args []string) error {
	container := inventory.BareContainer(name)
	if !netns.At(container.NetNS).Gone() {
		return fmt.Errorf("the container name %q is already in use by namespace %s", name, container.NetNS)
	}
	ns, err := netns.Create(name)
	if err != nil {
		return err
	}
	ns.Close()
	var connected []string
	err = a.change(c, func(h *host.Host) error {
		for _, network := range networks {
			n, found := h.Network(network)
			if found != nil {
				return found
			}
			if failed := h.Connect(c.Context(), n, &container, o); failed != nil {
				return failed
			}
			connected = append(connected, n.Name)
			if failed := h.Refresh(c.Context()); failed != nil {
				return failed
			}
		}
		return nil
	})
	if err == nil {
		err = a.child(name, args)
	}
	return errors.Join(err, a.leave(c, name, connected))
}

// child runs the command, which gets the signals that this program gets.
func (a *app) child(name string, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self, append([]string{"--config", a.configFile, "exec", "netns:" + name, "--"}, args...)...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, a.out, a.err
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer signal.Stop(signals)
	if err := child.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- child.Wait() }()
	for {
		select {
		case sig := <-signals:
			_ = child.Process.Signal(sig) // it may have ended
		case err := <-done:
			var exited *exec.ExitError
			if errors.As(err, &exited) {
				if ws, ok := exited.Sys().(interface{ Signal() unix.Signal }); ok && exited.ExitCode() < 0 {
					return statusError(128 + int(ws.Signal()))
				}
				return statusError(exited.ExitCode())
			}
			return err
		}
	}
}

// leave disconnects the namespace and deletes it, whatever has ended the command.
func (a *app) leave(c *cobra.Command, name string, networks []string) error {
	id := inventory.BareContainer(name).CNIID
	err := a.change(c, func(h *host.Host) error {
		var errs []error
		for _, network := range networks {
			for _, at := range h.On(network) {
				if at.ContainerID == id {
					errs = append(errs, h.Detach(context.WithoutCancel(c.Context()), at))
				}
			}
		}
		return errors.Join(errs...)
	})
	return errors.Join(err, netns.Delete(name))
}

func (a *app) exec() *cobra.Command {
	c := &cobra.Command{
		Use: "exec CONTAINER -- COMMAND [ARG...]", Short: "Run a command of the host in a container's network", Args: arguments(2, -1),
		Long: `Run a command of this host in the network namespace of a container: the tools need not
be in its image. The command has the container's resolv.conf and hosts file, if it is
on a network with names; all other files are the host's.`,
		Example: `  dockyard exec web -- ip addr
  dockyard exec web -- tcpdump -ni eth0`,
		ValidArgsFunction: a.completeContainers,
		RunE: func(c *cobra.Command, args []string) error {
			inv, err := a.inventory(c.Context())
			if err != nil {
				return err
			}
			container, err := findContainer(inv, args[0])
			if err != nil {
				return err
			}
			return host.Exec(&container, args[1:])
		},
	}
	return c
}
