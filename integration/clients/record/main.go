// Command record stands in for a CNI plugin: it writes down what a runtime sends,
// and runs the plugin of its name in the directory "real" beside it. Of each call
// it notes the verb and which keys and variables there are, not their values, as
// a line of the file "calls" there.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	self, err := os.Executable()
	if err != nil {
		fail(err)
	}
	real := filepath.Join(filepath.Dir(self), "real")
	plugin := filepath.Base(os.Args[0])
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(err)
	}
	if err := note(filepath.Join(real, "calls"), plugin, stdin); err != nil {
		fail(err)
	}
	cmd := exec.Command(filepath.Join(real, plugin))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), os.Stdout, os.Stderr
	_ = cmd.Run()
	os.Exit(cmd.ProcessState.ExitCode())
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "record:", err)
	os.Exit(1)
}

func note(file, plugin string, stdin []byte) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, line(plugin, stdin)) // in one write: calls are made in parallel
	return err
}

func line(plugin string, stdin []byte) string {
	verb := os.Getenv("CNI_COMMAND")
	if verb == "" {
		verb = "bare"
	}
	if verb == "VERSION" || verb == "bare" {
		return verb + " " + plugin
	}
	var conf map[string]any
	if err := json.Unmarshal(stdin, &conf); err != nil {
		return verb + " " + plugin + " no JSON"
	}
	words := []string{verb, plugin, fmt.Sprint(conf["cniVersion"]), "netns=" + shape(os.Getenv("CNI_NETNS")), "args=" + args()}
	keys := map[string]bool{}
	delete(conf, "cniVersion")
	if conf["prevResult"] != nil {
		conf["prevResult"] = true
	}
	collect("", conf, keys)
	return strings.Join(append(words, slices.Sorted(maps.Keys(keys))...), " ")
}

// shape is the directory of a path, with digits left out.
func shape(path string) string {
	if path == "" {
		return "none"
	}
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, filepath.Dir(path))
}

func args() string {
	var keys []string
	for pair := range strings.SplitSeq(os.Getenv("CNI_ARGS"), ";") {
		key, _, _ := strings.Cut(pair, "=")
		if key != "" {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return strings.Join(keys, ",")
}

// collect gathers the paths of all keys; those below a map of names that a user
// chose are of no interest.
func collect(path string, v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			into[strings.TrimPrefix(path+"."+key, ".")] = true
			if !strings.HasSuffix(key, "Labels") {
				collect(path+"."+key, value, into)
			}
		}
	case []any:
		for _, value := range v {
			collect(path+"[]", value, into)
		}
	}
}
