package testnet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// A Network runs the plugins of one conflist on a host as a runtime does, by
// libcni. Edit, if set, sees each execution of a plugin before it happens; Said,
// if set, hears what a plugin that succeeds has to say on stderr.
type Network struct {
	Name string
	Edit func(*Call)
	Said func(string)

	h    *Host
	bin  []string
	list *libcni.NetworkConfigList
}

// A Call is one execution of a plugin, which an Edit may change: take a key out
// of the configuration, a variable out of the environment, put a command before.
type Call struct {
	Plugin string
	Index  int // of the plugin in the conflist
	Config map[string]any
	Env    []string
	Wrap   []string
}

// Verb is CNI_COMMAND.
func (c *Call) Verb() string { return c.env("CNI_COMMAND") }

func (c *Call) env(key string) string {
	for _, e := range c.Env {
		if v, ok := strings.CutPrefix(e, key+"="); ok {
			return v
		}
	}
	return ""
}

// Unset takes a variable out of the environment.
func (c *Call) Unset(key string) {
	c.Env = slices.DeleteFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, key+"=") })
}

// An Attachment is one interface of one container. Args are CNI_ARGS, Caps the
// values of the capabilities that the runtime has to offer.
type Attachment struct {
	ID, IfName, NetNS string
	Args              [][2]string
	Caps              map[string]any
}

// Attachment is an attachment of a container made by Container.
func (h *Host) Attachment(container string) Attachment {
	return Attachment{ID: container, IfName: "eth0", NetNS: h.Path(container)}
}

// Network reads a conflist. Plugins are found in dirs, in that order.
func (h *Host) Network(conflist []byte, dirs ...string) (*Network, error) {
	list, err := libcni.NetworkConfFromBytes(conflist)
	if err != nil {
		return nil, err
	}
	return &Network{Name: list.Name, h: h, bin: dirs, list: list}, nil
}

// Dirs are where the plugins are found.
func (n *Network) Dirs() []string { return n.bin }

// Types lists the plugins of the network.
func (n *Network) Types() []string {
	var out []string
	for _, p := range n.list.Plugins {
		out = append(out, p.Network.Type)
	}
	return out
}

// With returns a copy of the network whose calls go through edit as well.
func (n *Network) With(edit func(*Call)) *Network {
	c := *n
	if n.Edit != nil {
		c.Edit = func(call *Call) { n.Edit(call); edit(call) }
	} else {
		c.Edit = edit
	}
	return &c
}

// cni returns the library with a cache beside the host, as no plugin's work may
// depend on it or be taken for it.
func (n *Network) cni() *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(n.bin, filepath.Join(n.h.dir, "cache"), &executor{network: n})
}

// timeout bounds one verb of the whole chain.
func timeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 5*time.Minute) // an emulated machine takes seconds for what takes milliseconds
}

// Add runs ADD and returns its result in the newest version.
func (n *Network) Add(a Attachment) (*current.Result, error) {
	ctx, cancel := timeout()
	defer cancel()
	res, err := n.cni().AddNetworkList(ctx, n.list, a.conf())
	if err != nil {
		return nil, err
	}
	return current.GetResult(res)
}

// Check runs CHECK.
func (n *Network) Check(a Attachment) error {
	ctx, cancel := timeout()
	defer cancel()
	return n.cni().CheckNetworkList(ctx, n.list, a.conf())
}

// Del runs DEL.
func (n *Network) Del(a Attachment) error {
	ctx, cancel := timeout()
	defer cancel()
	return n.cni().DelNetworkList(ctx, n.list, a.conf())
}

// GC runs GC with the attachments to keep. libcni's cache plays no part, so it
// is the plugins that collect.
func (n *Network) GC(keep ...Attachment) error {
	ctx, cancel := timeout()
	defer cancel()
	dir, err := os.MkdirTemp(n.h.dir, "gc")
	if err != nil {
		return err
	}
	args := libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
	for _, a := range keep {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: a.ID, IfName: a.IfName})
	}
	return libcni.NewCNIConfigWithCacheDir(n.bin, dir, &executor{network: n}).GCNetworkList(ctx, n.list, &args)
}

// Status runs STATUS.
func (n *Network) Status() error {
	ctx, cancel := timeout()
	defer cancel()
	return n.cni().GetStatusNetworkList(ctx, n.list)
}

func (a Attachment) conf() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: a.ID, NetNS: a.NetNS, IfName: a.IfName, Args: a.Args, CapabilityArgs: a.Caps}
}

// An executor runs a plugin on the calling thread, as libcni would, but through
// Edit.
type executor struct {
	network *Network
	version.PluginDecoder
}

// FindInPath implements invoke.Exec.
func (e *executor) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}

// ExecPlugin implements invoke.Exec.
func (e *executor) ExecPlugin(ctx context.Context, path string, stdin []byte, env []string) ([]byte, error) {
	call := &Call{Plugin: filepath.Base(path), Env: env}
	if e.network.Edit != nil && len(stdin) > 0 {
		if err := json.Unmarshal(stdin, &call.Config); err != nil {
			return nil, err
		}
		call.Index = slices.Index(e.network.Types(), call.Plugin)
		e.network.Edit(call)
		stdin, _ = json.Marshal(call.Config)
	}
	var stdout, stderr bytes.Buffer
	argv := append(slices.Clone(call.Wrap), path)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = call.Env, bytes.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, pluginError(call, err, stdout.Bytes(), stderr.String())
	}
	if e.network.Said != nil && stderr.Len() > 0 {
		e.network.Said(call.Plugin + " " + call.Verb() + ": " + stderr.String())
	}
	return stdout.Bytes(), nil
}

// pluginError is the error that the plugin printed. One that printed none has
// been killed, or breaks the protocol: then ErrNoAnswer is wrapped.
func pluginError(call *Call, err error, stdout []byte, stderr string) error {
	var said types.Error
	if json.Unmarshal(stdout, &said) == nil && said.Code != 0 {
		return &said
	}
	return fmt.Errorf("%s %s: %w: %w: stdout %q, stderr %q", call.Plugin, call.Verb(), ErrNoAnswer, err, stdout, stderr)
}

// ErrNoAnswer is wrapped by the error of a plugin that failed without printing one.
var ErrNoAnswer = errors.New("no error on stdout")
