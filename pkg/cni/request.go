package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A Request is one call of a plugin: what the environment and stdin say, apart
// from the plugin's own configuration.
type Request struct {
	Base
	Owner  owner.Key         // of GC and STATUS only the network is set
	NetNS  *netns.NS         // the container's; its path may be empty, missing or stale on DEL
	Args   map[string]string // CNI_ARGS, as given
	Config []byte            // stdin

	// Prev is prevResult in the newest version, nil where there is none.
	Prev *current.Result
	// Valid holds the attachments that a GC must keep.
	Valid map[owner.Mark]bool

	last    []func()
	plugin  string // that runs, which need not be Type: an IPAM plugin sees the whole configuration
	badArgs error  // why CNI_ARGS cannot be read, which DEL need not know
}

// Mark is the owner mark of the attachment.
func (r *Request) Mark() owner.Mark { return r.Owner.Mark() }

// OwnNetNS reports whether CNI_NETNS is the namespace of this process. The
// specification forbids it; CNI_NETNS_OVERRIDE (libcni's own variable) allows it.
func (r *Request) OwnNetNS() (bool, error) {
	if v := strings.ToUpper(override); v == "TRUE" || v == "1" {
		return false, nil
	}
	return r.NetNS.Same(netns.Host())
}

// skel refuses the plugin's own namespace only after the plugin has run, so
// that test is made here, before anything is, and switched off there.
const overrideName = "CNI_NETNS_OVERRIDE"

// override is the variable as the runtime has set it.
var override = os.Getenv(overrideName)

// Base holds the keys that every plugin's configuration has. Embed it.
type Base struct {
	CNIVersion       string          `json:"cniVersion"`
	Name             string          `json:"name"`
	Type             string          `json:"type"`
	Capabilities     json.RawMessage `json:"capabilities"` // libcni leaves it in
	IPAM             json.RawMessage `json:"ipam"`         // the IPAM plugin judges it
	AnyArgs          json.RawMessage `json:"args"`         // of which a plugin decodes what is its own
	AnyRuntimeConfig json.RawMessage `json:"runtimeConfig"`
	DNS              types.DNS       `json:"dns"`
	PrevResult       json.RawMessage `json:"prevResult"`
	ValidAttachments json.RawMessage `json:"cni.dev/valid-attachments"`
	// Attachments is what the published 1.1.0 specification calls ValidAttachments.
	Attachments json.RawMessage `json:"cni.dev/attachments"`
}

func newRequest(a *skel.CmdArgs) (*Request, error) {
	r := &Request{NetNS: netns.At(a.Netns), Config: a.StdinData}
	if err := json.Unmarshal(a.StdinData, &r.Base); err != nil {
		// A wrong type in one key does not hide the others: DEL needs the name.
		var wrong *json.UnmarshalTypeError
		if !errors.As(err, &wrong) {
			return nil, Errorf(CodeDecode, "configuration: %w", err)
		}
	}
	r.Owner = owner.Key{Network: r.Name, ContainerID: a.ContainerID, IfName: a.IfName}
	r.Args, r.badArgs = parseArgs(a.Args)
	return r, nil
}

// judgeArgs fails if CNI_ARGS cannot be read.
func (r *Request) judgeArgs() error { return r.badArgs }

// parseArgs reads CNI_ARGS ("K=V;K2=V2"). With the error of what cannot be read
// it returns what can.
func parseArgs(s string) (args map[string]string, err error) {
	args = map[string]string{}
	for pair := range strings.SplitSeq(s, ";") {
		if pair == "" {
			continue
		}
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			err = errors.Join(err, fmt.Errorf("CNI_ARGS: found %q, want KEY=VALUE pairs separated by ';'", pair))
			continue
		}
		args[k] = v
	}
	if err != nil {
		err = Errorf(CodeEnvironment, "%w", err)
	}
	return args, err
}

// versioned returns a result with that version if it names none: it is of the
// configuration's then.
func versioned(result []byte, version string) []byte {
	var keys map[string]json.RawMessage
	if json.Unmarshal(result, &keys) != nil || keys == nil || keys["cniVersion"] != nil || version == "" {
		return result
	}
	keys["cniVersion"], _ = json.Marshal(version)
	result, _ = json.Marshal(keys)
	return result
}

// readPrev decodes prevResult into the newest version.
func (r *Request) readPrev() error {
	if len(r.PrevResult) == 0 || string(r.PrevResult) == "null" {
		return nil
	}
	res, err := create.Create(r.CNIVersion, versioned(r.PrevResult, r.CNIVersion))
	if err == nil {
		r.Prev, err = current.GetResult(res)
	}
	if err != nil {
		var report conf.Report
		report.Bad("prevResult", r.PrevResult, "a result of CNI version %s (%v)", r.CNIVersion, err)
		return Errorf(CodeDecode, "%w", report.Err())
	}
	return nil
}

// readValid decodes the attachments that GC must keep. "valid-attachments" is
// the name of today's specification, "attachments" that of the published 1.1.0;
// libcni sends both, and null where no attachment is valid. What either of them names
// is kept. An entry that names no attachment is an error, and so are no keys at all: to
// pass over it could take away a container's network.
func (r *Request) readValid() error {
	r.Valid = map[owner.Mark]bool{}
	var report conf.Report
	missing := 0
	for _, key := range []struct {
		path string
		raw  json.RawMessage
	}{{"cni.dev/valid-attachments", r.ValidAttachments}, {"cni.dev/attachments", r.Attachments}} {
		if len(key.raw) == 0 {
			missing++
			continue
		}
		var list []types.GCAttachment
		conf.DecodeAt(key.path, key.raw, &list, &report)
		for i, a := range list {
			for _, field := range [][2]string{{"containerID", a.ContainerID}, {"ifname", a.IfName}} {
				if field[1] == "" {
					report.Missing(conf.Index(key.path, i)+"."+field[0], "that of an attachment to keep")
				}
			}
			r.Valid[owner.Key{Network: r.Name, ContainerID: a.ContainerID, IfName: a.IfName}.Mark()] = true
		}
	}
	if missing == 2 {
		report.Missing("cni.dev/valid-attachments", "the list of attachments to keep; [] or null removes all")
	}
	if err := report.Err(); err != nil {
		return Errorf(CodeConfig, "%w", err)
	}
	return nil
}

// Keep reports whether GC must leave what carries this mark: it belongs to
// another network, or to an attachment that is still valid.
func (r *Request) Keep(m owner.Mark) bool { return !m.OnNetwork(r.Name) || r.Valid[m] }

// openNetNS checks CNI_NETNS before anything is made.
func (r *Request) openNetNS(context.Context) error {
	if err := r.NetNS.Open(); errors.Is(err, fs.ErrNotExist) {
		return Errorf(CodeNetNS, "CNI_NETNS: %w; is the container still running?", err)
	} else if err != nil {
		return Errorf(CodeNetNS, "CNI_NETNS: %w, want the path of the container's", err)
	}
	own, err := r.OwnNetNS()
	if err != nil {
		return Errorf(CodeNetNS, "CNI_NETNS: %w", err)
	}
	if own {
		return Errorf(CodeNetNS, "CNI_NETNS: %s is the namespace of the host itself, want the container's", r.NetNS.Path())
	}
	return nil
}

// Last has f done when the result of ADD is out, before the plugin ends. The runtime
// waits for the end.
func (r *Request) Last(f func()) { r.last = append(r.last, f) }

func (r *Request) String() string {
	return fmt.Sprintf("network %q, container %q, interface %q", r.Owner.Network, r.Owner.ContainerID, r.Owner.IfName)
}

// HasIPAM reports whether the configuration names an IPAM plugin.
func (r *Request) HasIPAM() bool { return r.ipam().plugin != "" }

// MAC returns the hardware address that the runtime or the user asked for, nil
// if none. CONVENTIONS.md ranks runtimeConfig above args, and args above
// CNI_ARGS.
func (r *Request) MAC(rep *conf.Report, capability, args conf.MAC) net.HardwareAddr {
	if capability != nil {
		return net.HardwareAddr(capability)
	}
	if args != nil {
		return net.HardwareAddr(args)
	}
	text, ok := r.Args["MAC"]
	if !ok {
		return nil
	}
	var mac conf.MAC
	if err := mac.UnmarshalText([]byte(text)); err != nil {
		rep.Bad("CNI_ARGS MAC", text, `a unicast MAC address such as "02:42:0a:01:00:02"`)
	}
	return net.HardwareAddr(mac)
}

// DefaultRoute is the destination that is everywhere.
func DefaultRoute(ipv6 bool) net.IPNet {
	if ipv6 {
		return net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	return net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
}

// runtimeDNS returns runtimeConfig.dns, whose keys CONVENTIONS.md names
// differently from those of a result.
func (r *Request) runtimeDNS() types.DNS {
	var c struct {
		RuntimeConfig struct {
			DNS struct {
				Servers  []string `json:"servers"`
				Searches []string `json:"searches"`
				Options  []string `json:"options"`
			} `json:"dns"`
		} `json:"runtimeConfig"`
	}
	_ = json.Unmarshal(r.Config, &c) // another's key of that name changes nothing
	d := c.RuntimeConfig.DNS
	return types.DNS{Nameservers: d.Servers, Search: d.Searches, Options: d.Options}
}

// PrevIPs returns the addresses that prevResult gives the attachment.
func (r *Request) PrevIPs() ([]IP, error) { return ips(r.Prev, r.Owner.IfName) }

// Warn writes warnings to stderr, which runtimes log, in the form of log/slog's
// text handler, which would make each plugin larger.
func (r *Request) Warn(warnings ...string) {
	for _, w := range warnings {
		warn(w, "network", r.Name, "plugin", r.plugin)
	}
}

func warn(text string, attrs ...string) {
	line := "time=" + time.Now().Format(time.RFC3339Nano) + " level=WARN msg=" + strconv.Quote(text)
	for i := 0; i+1 < len(attrs); i += 2 {
		line += " " + attrs[i] + "=" + attrs[i+1]
	}
	_, _ = fmt.Fprintln(os.Stderr, line)
}
