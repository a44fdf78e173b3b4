package cni

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A stage is what a fake plugin did, and where it is to fail.
type stage struct {
	did  []string
	fail map[string]error
	have []engine.Found
}

func (s *stage) do(what string) error {
	s.did = append(s.did, what)
	return s.fail[what]
}

// A thing is the one owned object of the fake plugin.
type thing struct{ *stage }

func (thing) Key() string    { return "thing" }
func (thing) String() string { return "make thing" }
func (t thing) Observe(context.Context) (engine.Diff, error) {
	if err := t.do("observe"); err != nil {
		return engine.Diff(err.Error()), nil
	}
	return engine.Same, nil
}
func (t thing) Apply(context.Context) error  { return t.do("apply") }
func (t thing) Remove(context.Context) error { return t.do("remove") }

// Of and All make the stage a scope.
func (s *stage) Of(_ context.Context, m owner.Mark) ([]engine.Found, error) {
	return slices.DeleteFunc(slices.Clone(s.have), func(f engine.Found) bool { return f.Mark != m }), s.fail["find"]
}
func (s *stage) All(context.Context) ([]engine.Found, error) { return s.have, s.fail["find"] }

// A chained is the configuration of a plugin that makes no interface.
type chained struct {
	Base
	Number int `json:"number"`
	stage  *stage
}

func (c *chained) Validate(_ *Request, r *conf.Report) { r.Range("number", c.Number, 1, 9) }
func (c *chained) Plan(*Attachment) (p engine.Plan) {
	p.Require(thing{&stage{fail: map[string]error{"observe": c.stage.fail["require"]}}})
	p.Own(thing{c.stage})
	return p
}

// A linking is that of one that makes it.
type linking struct{ chained }

func (c *linking) Complete(*Attachment) error                 { return c.stage.do("complete") }
func (c *linking) Resolve(context.Context, *Attachment) error { return c.stage.do("resolve") }
func (c *linking) Links(context.Context, *Attachment) ([]*current.Interface, error) {
	return []*current.Interface{{Name: "eth0"}}, c.stage.do("links")
}

func plugin(s *stage, links bool) Planned {
	return Planned{
		New: func() Config {
			if links {
				return &linking{chained{stage: s}}
			}
			return &chained{stage: s}
		},
		Scopes: func(*Request) []engine.Scope { return []engine.Scope{s} },
	}
}

// installIPAM puts an IPAM plugin into CNI_PATH that says which verbs it was
// called for, and fails those named.
func installIPAM(t *testing.T, fails ...string) (verbs func() []string) {
	t.Helper()
	dir := t.TempDir()
	script := `#!/bin/sh
echo $CNI_COMMAND >> ` + dir + `/verbs
case " ` + strings.Join(fails, " ") + ` " in *" $CNI_COMMAND "*)
	echo '{"cniVersion": "1.1.0", "code": 11, "msg": "range is full"}'; exit 1;;
esac
[ $CNI_COMMAND != ADD ] || echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.2/24"}]}'
`
	if err := os.WriteFile(filepath.Join(dir, "ipam"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"CNI_PATH": dir, "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": "/x"} {
		t.Setenv(k, v)
	}
	return func() []string {
		b, _ := os.ReadFile(dir + "/verbs")
		return strings.Fields(string(b))
	}
}

const withIPAM = `{"cniVersion": "1.1.0", "name": "net", "type": "test", "number": 1, "ipam": {"type": "ipam"}}`

// allowOwnNetNS: these tests make nothing, so any namespace will do.
func allowOwnNetNS(t *testing.T) {
	t.Helper()
	was := override
	override = "1"
	t.Cleanup(func() { override = was })
}

var errStage = errors.New("stage")

// What ADD does, where it fails, what is undone, and which verbs IPAM sees.
func TestAdd(t *testing.T) {
	allowOwnNetNS(t)
	for _, c := range []struct {
		fails, did, ipam string
		code             uint
	}{
		{"", "resolve complete apply links", "ADD", 0},
		{"complete", "resolve complete", "ADD DEL", CodeInternal},
		{"resolve", "resolve", "", CodeInternal},
		{"require", "resolve", "", CodeRequired},
		{"apply", "resolve complete apply remove", "ADD DEL", CodeInternal},
		{"links", "resolve complete apply links", "ADD DEL", CodeInternal},
		{"find", "", "", CodeInternal},
	} {
		t.Run("fails at "+c.fails, func(t *testing.T) {
			verbs := installIPAM(t)
			s := &stage{fail: map[string]error{c.fails: errStage}}
			_, err := plugin(s, true).Add(t.Context(), request(t, withIPAM))
			if (err != nil) != (c.fails != "") || err != nil && codeOf(err) != c.code {
				t.Errorf("error %v, want code %d", err, c.code)
			}
			if got := strings.Join(s.did, " "); got != c.did {
				t.Errorf("did %q, want %q", got, c.did)
			}
			if got := strings.Join(verbs(), " "); got != c.ipam {
				t.Errorf("IPAM saw %q, want %q", got, c.ipam)
			}
		})
	}
}

// If the IPAM plugin fails, it is told to give back, and nothing is made.
func TestAddIPAMFails(t *testing.T) {
	allowOwnNetNS(t)
	verbs := installIPAM(t, "ADD")
	s := &stage{}
	_, err := plugin(s, true).Add(t.Context(), request(t, withIPAM))
	if err == nil || codeOf(err) != CodeTryAgain || err.Error() != `ipam plugin "ipam": range is full` {
		t.Errorf("%v (code %d), want the plugin's own", err, codeOf(err))
	}
	if !slices.Equal(s.did, []string{"resolve"}) || !slices.Equal(verbs(), []string{"ADD", "DEL"}) {
		t.Errorf("did %q, IPAM saw %q", s.did, verbs())
	}
}

// An address that another host has is given back, and another asked for; if
// that is the same, there is no other, and it is not tried again.
func TestAddDuplicate(t *testing.T) {
	allowOwnNetNS(t)
	verbs := installIPAM(t)
	s := &stage{fail: map[string]error{"apply": fmt.Errorf("address 10.1.0.2: %w", engine.ErrDuplicate)}}
	_, err := plugin(s, true).Add(t.Context(), request(t, withIPAM))
	if !errors.Is(err, engine.ErrDuplicate) || codeOf(err) != CodeHeld {
		t.Errorf("%v (code %d), want the duplicate", err, codeOf(err))
	}
	if !slices.Equal(verbs(), []string{"ADD", "DEL", "ADD", "DEL"}) {
		t.Errorf("IPAM saw %q", verbs())
	}
	if want := []string{"resolve", "complete", "apply", "remove"}; !slices.Equal(s.did, want) {
		t.Errorf("did %q, want %q", s.did, want)
	}
}

// A second ADD is refused before anything is touched, the lease above all.
func TestAddTwice(t *testing.T) {
	allowOwnNetNS(t)
	verbs := installIPAM(t)
	s := &stage{}
	s.have = []engine.Found{{Mark: "net/c1/eth0", Resource: thing{s}}}
	_, err := plugin(s, true).Add(t.Context(), request(t, withIPAM))
	if err == nil || codeOf(err) != CodeExists || !strings.Contains(err.Error(), "DEL it first") {
		t.Errorf("%v", err)
	}
	if len(s.did) > 0 || len(verbs()) > 0 {
		t.Errorf("did %q, IPAM saw %q", s.did, verbs())
	}
}

// A chained plugin replaces what is left of a dead attachment of that name.
func TestAddChained(t *testing.T) {
	allowOwnNetNS(t)
	s := &stage{}
	s.have = []engine.Found{{Mark: "net/c1/eth0", Resource: thing{s}}, {Mark: "net/c2/eth0", Resource: thing{s}}}
	r := request(t, `{"cniVersion": "1.1.0", "name": "net", "type": "test", "number": 1}`)
	if _, err := plugin(s, false).Add(t.Context(), r); err == nil || codeOf(err) != CodeConfig || len(s.did) > 0 {
		t.Errorf("without prevResult: %v, did %q", err, s.did)
	}
	r.Prev = dual(t)
	res, err := plugin(s, false).Add(t.Context(), r)
	if err != nil || res != r.Prev {
		t.Errorf("%v; result %+v, want prevResult as it came", err, res)
	}
	if want := []string{"remove", "apply"}; !slices.Equal(s.did, want) {
		t.Errorf("did %q, want %q", s.did, want)
	}
}

// A reporting is that of a chained plugin that adds to the result.
type reporting struct{ chained }

func (*reporting) Report(a *Attachment, res *current.Result) {
	res.DNS.Nameservers = append([]string{string(a.Mark())}, res.DNS.Nameservers...)
}

// What a chained plugin reports is in its result, and not in prevResult.
func TestAddReports(t *testing.T) {
	allowOwnNetNS(t)
	p := plugin(&stage{}, false)
	p.New = func() Config { return &reporting{chained{stage: &stage{}}} }
	r := request(t, `{"cniVersion": "1.1.0", "name": "net", "type": "test", "number": 1}`)
	r.Prev = dual(t)
	before := slices.Clone(r.Prev.DNS.Nameservers)
	res, err := p.Add(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if want := append([]string{"net/c1/eth0"}, before...); !slices.Equal(res.DNS.Nameservers, want) || !slices.Equal(r.Prev.DNS.Nameservers, before) {
		t.Errorf("result %v, prevResult %v; want %v, and %v as it was", res.DNS, r.Prev.DNS, want, before)
	}
}

func TestCheck(t *testing.T) {
	allowOwnNetNS(t)
	verbs := installIPAM(t)
	r := request(t, withIPAM)
	s := &stage{}
	if err := plugin(s, true).Check(t.Context(), r); err == nil || codeOf(err) != CodeConfig {
		t.Errorf("without prevResult: %v", err)
	}
	r.Prev = dual(t)
	if err := plugin(s, true).Check(t.Context(), r); err != nil || !slices.Equal(s.did, []string{"resolve", "observe"}) {
		t.Errorf("%v, did %q", err, s.did)
	}
	s = &stage{fail: map[string]error{"observe": errStage}}
	if err := plugin(s, true).Check(t.Context(), r); err == nil || codeOf(err) != CodeDiffers || err.Error() != "make thing: stage" {
		t.Errorf("%v", err)
	}
	if want := []string{"CHECK", "CHECK"}; !slices.Equal(verbs(), want) {
		t.Errorf("IPAM saw %q, want %q", verbs(), want)
	}
}

// DEL goes on past every failure, and needs no valid configuration.
func TestDel(t *testing.T) {
	for config, ipam := range map[string]string{
		withIPAM: "DEL",
		`{"name": "net", "number": "x", "ipam": {"type": "ipam", "ranges": 5}}`: "DEL",
		`{"name": "net", "ipam": "ipam"}`:                                       "",
		`{"name": "net", "ipam": {"type": 5}}`:                                  "",
		`{"name": "net", "ipam": {"type": "absent"}}`:                           "",
		`{"name": "net", "ipam": {}}`:                                           "",
		`{"name": "net"}`:                                                       "",
	} {
		verbs := installIPAM(t)
		s := &stage{}
		s.have = []engine.Found{{Mark: "net/c1/eth0", Resource: thing{s}}}
		if err := plugin(s, true).Del(t.Context(), request(t, config)); err != nil {
			t.Errorf("%s: %v", config, err)
		}
		if got := strings.Join(verbs(), " "); got != ipam || !slices.Equal(s.did, []string{"remove"}) {
			t.Errorf("%s: did %q, IPAM saw %q, want %q", config, s.did, got, ipam)
		}
	}
	verbs := installIPAM(t, "DEL")
	s := &stage{fail: map[string]error{"find": errStage, "remove": errors.New("busy")}}
	s.have = []engine.Found{{Mark: "net/c1/eth0", Resource: thing{s}}}
	err := plugin(s, true).Del(t.Context(), request(t, withIPAM))
	for _, want := range []string{"stage", "removing make thing: busy", "range is full"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
	if !slices.Equal(verbs(), []string{"DEL"}) {
		t.Errorf("IPAM saw %q", verbs())
	}
}

func TestGC(t *testing.T) {
	verbs := installIPAM(t)
	s := &stage{}
	for _, m := range []owner.Mark{"net/c1/eth0", "net/c2/eth0", "other/c3/eth0"} {
		s.have = append(s.have, engine.Found{Mark: m, Resource: thing{s}})
	}
	r := request(t, withIPAM)
	r.Valid = map[owner.Mark]bool{"net/c1/eth0": true}
	if err := plugin(s, true).GC(t.Context(), r); err != nil || !slices.Equal(s.did, []string{"remove"}) || !slices.Equal(verbs(), []string{"GC"}) {
		t.Errorf("%v, did %q, IPAM saw %q", err, s.did, verbs())
	}
}

func TestStatus(t *testing.T) {
	verbs := installIPAM(t)
	s := &stage{}
	if err := plugin(s, true).Status(t.Context(), request(t, withIPAM)); err != nil {
		t.Error(err)
	}
	if slices.Contains(s.did, "observe") || slices.Contains(s.did, "apply") || !slices.Equal(verbs(), []string{"STATUS"}) {
		t.Errorf("did %q, IPAM saw %q; want nothing but what is required", s.did, verbs())
	}
	s = &stage{fail: map[string]error{"require": errStage}}
	if err := plugin(s, true).Status(t.Context(), request(t, withIPAM)); err == nil || codeOf(err) != CodeNotReady {
		t.Errorf("%v", err)
	}
}

func TestLoadSaysEverything(t *testing.T) {
	_, err := plugin(&stage{}, true).Load(request(t, `{"name": "net", "type": 5, "number": 0, "ipam": {"typ": "x"}}`))
	const want = `type: found 5, want a string; ` +
		`ipam.type: missing, want the name of an IPAM plugin, such as "host-local"; {} alone is for no addresses; ` +
		`number: found 0, want 1 to 9`
	if err == nil || err.Error() != want || codeOf(err) != CodeConfig {
		t.Errorf("%v\nwant %s", err, want)
	}
}

func TestPreview(t *testing.T) {
	args := &skel.CmdArgs{ContainerID: "c1", IfName: "eth0", StdinData: []byte(withIPAM)}
	s := &stage{}
	plan, _, err := plugin(s, true).Preview(args, &current.Result{})
	if err != nil || len(plan) != 2 || !slices.Equal(s.did, []string{"complete"}) {
		t.Errorf("%v (%v), did %q", plan, err, s.did)
	}
	args.StdinData = []byte(`{"name": "net", "cniVersion": "1.1.0", "prevResult": 5}`)
	if _, _, err := plugin(s, true).Preview(args, nil); err == nil {
		t.Error("prevResult that is none passes")
	}
	args.StdinData = []byte(`{"name": "net", "cniVersion": "1.1.0", "number": 5}`)
	if _, _, err := plugin(s, false).Preview(args, nil); err == nil {
		t.Error("a chained plugin without prevResult passes")
	}
	args.StdinData = []byte(`{"name": "net", "cniVersion": "1.1.0", "number": 5, "colour": 1}`)
	if _, report, err := plugin(s, true).Preview(args, &current.Result{}); err != nil || len(report.Warnings()) != 1 {
		t.Errorf("%v, warnings %q", err, report.Warnings())
	}
}

// Whatever is on stdin, a plugin answers.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{withIPAM, `{"name": "net"}`, `{"name": "net", "ipam": [1]}`, `{"prevResult": {"cniVersion": "0.2.0", "ip4": {}}}`, `null`, `{"cni.dev/attachments": [null]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		r, err := newRequest(&skel.CmdArgs{StdinData: data, ContainerID: "c1", IfName: "eth0"})
		if err != nil {
			return
		}
		_ = r.readPrev()
		_ = r.readValid()
		for _, links := range []bool{false, true} {
			_, _ = plugin(&stage{}, links).judge(r)
		}
	})
}
