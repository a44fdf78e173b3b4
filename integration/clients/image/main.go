// Command image writes a container image with nothing but busybox, in the form of
// "docker save", which containerd, nerdctl and podman load:
//
//	image BUSYBOX NAME:TAG OUT.tar
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: image BUSYBOX NAME:TAG OUT.tar")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func write(busybox, name, out string) error {
	layer, err := rootfs(busybox)
	if err != nil {
		return err
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(layer))
	config := marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": "2020-01-01T00:00:00Z",
		"config":  map[string]any{"Env": []string{"PATH=/bin"}, "Cmd": []string{"/bin/sleep", "1000000"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + sum}},
		"history": []any{map[string]any{"created": "2020-01-01T00:00:00Z"}},
	})
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest := marshal([]any{map[string]any{"Config": configName, "RepoTags": []string{name}, "Layers": []string{sum + "/layer.tar"}}})
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	file(w, configName, 0o644, config)
	file(w, sum+"/layer.tar", 0o644, layer)
	file(w, "manifest.json", 0o644, manifest)
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(out, image.Bytes(), 0o644)
}

// rootfs has a link for each command of busybox.
func rootfs(busybox string) ([]byte, error) {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return nil, err
	}
	commands, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, dir := range []string{"bin", "dev", "etc", "proc", "root", "sys", "tmp", "var", "var/run"} {
		header(w, tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755})
	}
	file(w, "bin/busybox", 0o755, program)
	for command := range strings.FieldsSeq(string(commands)) {
		if command != "busybox" {
			header(w, tar.Header{Name: "bin/" + command, Typeflag: tar.TypeSymlink, Linkname: "busybox"})
		}
	}
	file(w, "etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\n"))
	file(w, "etc/group", 0o644, []byte("root:x:0:\n"))
	file(w, "etc/nsswitch.conf", 0o644, []byte("hosts: files dns\n"))
	return layer.Bytes(), w.Close()
}

func file(w *tar.Writer, name string, mode int64, data []byte) {
	header(w, tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(data))})
	_, _ = w.Write(data) // into memory; Close tells
}

func header(w *tar.Writer, h tar.Header) { _ = w.WriteHeader(&h) }

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // strings and numbers
		panic(err)
	}
	return b
}
