// Package command is the commands of the program: flags, help, exit codes. What they
// do is done in the packages beside it.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/format"
	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
)

// Exit codes, as docker has them.
const (
	exitFailure  = 1
	exitTemplate = 64
	exitUsage    = 125
)

// An app is what commands share.
type app struct {
	out, err   io.Writer
	configFile string
}

// usageError is one of the flags.
type usageError struct{ error }

// statusError ends the program as the command that it ran has ended.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// failures are several errors, of which each has its line.
type failures []error

func (f failures) Error() string {
	var lines []string
	for _, e := range f {
		lines = append(lines, e.Error())
	}
	return strings.Join(lines, "\n")
}

func (f failures) orNil() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// Main runs the program, and returns its exit code.
func Main(args []string, out, errs io.Writer) int {
	a := &app{out: out, err: errs}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	return a.code(root.ExecuteContext(context.Background()))
}

// code prints an error, a line each, and says what the program ends with.
func (a *app) code(err error) int {
	var status statusError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	}
	list := failures{err}
	if all := (failures)(nil); errors.As(err, &all) {
		list = all
	}
	for _, e := range list {
		_, _ = fmt.Fprintln(a.err, "Error: "+e.Error())
	}
	var usage usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, format.ErrTemplate):
		return exitTemplate
	}
	return exitFailure
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "dockyard",
		Short:         "Networks for containers of every CNI runtime",
		Version:       version(),
		SilenceErrors: true, SilenceUsage: true,
	}
	root.PersistentFlags().StringVar(&a.configFile, "config", configFile(), "where this host's directories are written down")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nRun '%s --help' for usage", err, c.CommandPath())}
	})
	network := &cobra.Command{Use: "network", Short: "Manage networks", RunE: help}
	network.AddCommand(a.create(), a.ls(), a.inspect(), a.connect(), a.disconnect(), a.prune(), a.rm(), a.update())
	root.AddCommand(network, a.ps(), a.port(), a.names(), a.run(), a.exec(), a.man())
	return root
}

func help(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unknown command: %s %s\nRun '%s --help' for more information", c.CommandPath(), args[0], c.CommandPath())
	}
	return c.Help()
}

func configFile() string {
	if file := os.Getenv("DOCKYARD_CONFIG"); file != "" {
		return file
	}
	return inventory.ConfigFile
}

// version is that of the plugins beside it.
func version() string {
	if cni.Version != "" {
		return cni.Version
	}
	info, _ := debug.ReadBuildInfo()
	return info.Main.Version
}

func (a *app) config() (inventory.Config, error) { return inventory.Load(a.configFile) }

func (a *app) inventory(ctx context.Context) (*inventory.Inventory, error) {
	c, err := a.config()
	if err != nil {
		return nil, err
	}
	inv, err := inventory.Read(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, p := range inv.Problems {
		_, _ = fmt.Fprintln(a.err, "Warning: "+p)
	}
	return inv, nil
}

// arguments refuses another number of them in docker's words.
func arguments(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		words := ""
		switch {
		case len(args) >= least && (most < 0 || len(args) <= most):
			return nil
		case most == 0:
			words = "accepts no arguments"
		case least == most:
			words = fmt.Sprintf("requires %d argument%s", least, s(least))
		case most < 0:
			words = fmt.Sprintf("requires at least %d argument%s", least, s(least))
		default:
			words = fmt.Sprintf("requires at most %d argument%s", most, s(most))
		}
		return fmt.Errorf("'%s' %s\nUsage:  %s\nRun '%s --help' for more information", c.CommandPath(), words, c.UseLine(), c.CommandPath())
	}
}

func s(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}
