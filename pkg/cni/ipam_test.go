package cni

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A delegated plugin sees what the runtime has set, not what this one sets for itself.
func TestD9CleanEnvironment(t *testing.T) {
	t.Setenv(overrideName, "1") // as Main does
	t.Setenv("CNI_PATH", "/x")
	for _, was := range []string{"", "true"} {
		before := override
		override = was
		environ := delegate{name: "other"}.environ("DEL")
		override = before
		var want []string
		if was != "" {
			want = []string{overrideName + "=" + was}
		}
		got := slices.DeleteFunc(slices.Clone(environ), func(v string) bool { return !strings.HasPrefix(v, overrideName) })
		if !slices.Equal(got, want) {
			t.Errorf("with %s=%q: %q, want %q", overrideName, was, got, want)
		}
		if !slices.Contains(environ, "CNI_PATH=/x") || !slices.Contains(environ, "CNI_COMMAND=DEL") {
			t.Errorf("the environment lacks CNI_PATH or the verb: %q", environ)
		}
	}
}

// A plugin of others fails in its own words, or without any; and is missing.
func TestDelegate(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CNI_PATH", "/nowhere:"+dir)
	for name, script := range map[string]string{
		"result":  `cat >/dev/null; echo '{"ips":[{"version":"4","address":"10.0.0.2/24"}]}'`,
		"coded":   `echo '{"cniVersion":"0.4.0","code":11,"msg":"full"}'; exit 1`,
		"silent":  `exit 3`,
		"chatter": `echo oops >&2; exit 1`,
		"garbage": `echo '<html>'; exit 1`,
		"verb":    `[ "$CNI_COMMAND" = CHECK ] || exit 1`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"coded": "full", "silent": "failed with no error message: exit status 3", "chatter": `failed: "oops\n": exit status 1`,
		"garbage": `failed, and its error message cannot be decoded: "<html>\n"`,
		"missing": `failed to find plugin "missing" in path [/nowhere ` + dir + `]`, "a/b": "invalid plugin name: a/b",
	} {
		if _, err := (delegate{name: name}).call(t.Context(), "ADD"); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	if _, err := (delegate{name: "verb"}).call(t.Context(), "CHECK"); err != nil {
		t.Error(err)
	}
	res, err := delegate{"result", []byte(`{"cniVersion":"0.4.0"}`)}.add(t.Context())
	if err != nil || res.Version() != "0.4.0" {
		t.Errorf("a result without version: %v (%v)", res, err)
	}
}
