package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
)

// A delegate is another plugin that this one calls, as libcni's package invoke does
// (CNI specification, "Plugin Delegation"). That package cannot be used: since v1.3.1
// it links OpenTelemetry, and with it net/http, which makes each start of a plugin a
// third slower.
type delegate struct {
	name   string
	config []byte // the configuration of the calling plugin
}

// path finds the plugin in the directories of CNI_PATH.
func (d delegate) path() (string, error) {
	if strings.ContainsRune(d.name, os.PathSeparator) {
		return "", fmt.Errorf("invalid plugin name: %s", d.name)
	}
	dirs := filepath.SplitList(os.Getenv("CNI_PATH"))
	for _, dir := range dirs {
		path := filepath.Join(dir, d.name)
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("failed to find plugin %q in path %s", d.name, dirs)
}

// call runs the verb, and returns what the plugin printed. The plugin's own error is a
// *types.Error.
func (d delegate) call(ctx context.Context, verb string) ([]byte, error) {
	path, err := d.path()
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = d.environ(verb), bytes.NewReader(d.config), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, pluginError(err, stdout.Bytes(), stderr.String())
	}
	_, _ = stderr.WriteTo(os.Stderr) // warnings
	return stdout.Bytes(), nil
}

// environ is what the runtime gave to this plugin, with another verb. host-local works
// on one CPU as well, and is told before it starts, when that costs nothing.
func (d delegate) environ(verb string) (environ []string) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); name != "CNI_COMMAND" && name != overrideName {
			environ = append(environ, v)
		}
	}
	if override != "" {
		environ = append(environ, overrideName+"="+override)
	}
	if d.name == "host-local" && os.Getenv("GOMAXPROCS") == "" {
		environ = append(environ, "GOMAXPROCS=1")
	}
	return append(environ, "CNI_COMMAND="+verb)
}

func pluginError(cause error, stdout []byte, stderr string) error {
	out := &types.Error{}
	switch {
	case len(stdout) == 0 && stderr == "":
		out.Msg = fmt.Sprintf("failed with no error message: %v", cause)
	case len(stdout) == 0:
		out.Msg = fmt.Sprintf("failed: %q: %v", stderr, cause)
	case json.Unmarshal(stdout, out) != nil:
		return &types.Error{Msg: fmt.Sprintf("failed, and its error message cannot be decoded: %q", stdout)}
	}
	return out
}

// add is the verb ADD, with the plugin's result.
func (d delegate) add(ctx context.Context) (types.Result, error) {
	out, err := d.call(ctx, "ADD")
	if err != nil {
		return nil, err
	}
	var conf, res struct {
		CNIVersion string `json:"cniVersion"`
	}
	_ = json.Unmarshal(d.config, &conf) // of a configuration that was decoded before
	out = versioned(out, conf.CNIVersion)
	if err := json.Unmarshal(out, &res); err != nil {
		return nil, fmt.Errorf("decode its result: %w", err)
	}
	return create.Create(res.CNIVersion, out)
}
