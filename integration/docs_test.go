package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// documents returns every Markdown file of the project by its path in it.
func documents(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	err := fs.WalkDir(os.DirFS(testnet.Root()), ".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && path != "." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if err == nil && strings.HasSuffix(path, ".md") {
			docs[path] = read(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testnet.Root(), path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var jsonBlock = regexp.MustCompile("(?ms)^```json\n(.*?)^```")

// TestDocsExamples: a configuration in a document is a file of conf-examples,
// all of which are tested.
func TestDocsExamples(t *testing.T) {
	examples := map[string]string{}
	paths, err := filepath.Glob(filepath.Join(testnet.Root(), "conf-examples", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		examples[string(b)] = p
	}
	for path, text := range documents(t) {
		for _, block := range jsonBlock.FindAllStringSubmatch(text, -1) {
			if examples[block[1]] == "" {
				t.Errorf("%s: this is no file of conf-examples:\n%s", path, block[1])
			}
		}
	}
}

var reference = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestDocsLinks: links within the project lead somewhere.
func TestDocsLinks(t *testing.T) {
	docs := documents(t)
	for path, text := range docs {
		for _, l := range reference.FindAllStringSubmatch(text, -1) {
			target, heading, _ := strings.Cut(l[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := path
			if target != "" {
				file = filepath.Join(filepath.Dir(path), target)
			}
			if _, err := os.Stat(filepath.Join(testnet.Root(), file)); err != nil {
				t.Errorf("%s: %s: %v", path, l[0], err)
			}
			if heading != "" && !slices.Contains(anchors(docs[file]), heading) {
				t.Errorf("%s: %s: no such heading", path, l[0])
			}
		}
	}
}

// anchors returns the names that headings have in links.
func anchors(text string) (names []string) {
	for line := range strings.Lines(text) {
		if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
			name := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(heading)), " ", "-")
			names = append(names, regexp.MustCompile(`[^a-z0-9_-]`).ReplaceAllString(name, ""))
		}
	}
	return names
}

// firstColumn returns the cells of the first column of every table whose head
// begins with this word.
func firstColumn(text, head string) []string { return column(text, head, 1) }

func column(text, head string, n int) (cells []string) {
	in := false
	for line := range strings.Lines(text) {
		columns := strings.Split(line, "|")
		if len(columns) < n+2 {
			in = false
			continue
		}
		switch first := strings.TrimSpace(columns[1]); {
		case first == head:
			in = true
		case in && !strings.HasPrefix(first, "---"):
			cells = append(cells, strings.TrimSpace(columns[n]))
		}
	}
	return cells
}

var quoted = regexp.MustCompile("`([^`]+)`")

// words returns what stands in backquotes, each dotted path by its last part,
// and an object "{a, b}" by its keys.
func words(text string) map[string]bool {
	out := map[string]bool{}
	for _, q := range quoted.FindAllStringSubmatch(text, -1) {
		for w := range strings.FieldsFuncSeq(q[1], func(c rune) bool { return strings.ContainsRune(".,[]{} ", c) }) {
			out[w] = true
		}
	}
	return out
}

// TestDocsKeys: each key of a plugin's configuration is in its manual page, and
// each key in the page is one of the configuration.
func TestDocsKeys(t *testing.T) {
	base, overlay := parse(t, "pkg/cni").keys("Base"), parse(t, "pkg/overlay")
	segment, parent := parse(t, "pkg/endpoint/bridgenet")["Config"], parse(t, "pkg/endpoint/childlink")["Config"]
	plugins, err := filepath.Glob(filepath.Join(testnet.Root(), "plugins", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range plugins {
		dir, _ := filepath.Rel(testnet.Root(), path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			page := read(t, filepath.Join(dir, "README.md"))
			own := parse(t, dir)
			if filepath.Base(dir) == "vxlan-overlay" { // its daemon needs it, too
				own = overlay
				own["config"] = own["Config"]
			}
			own["bridgenet.Config"], own["childlink.Config"] = segment, parent // whose keys a plugin takes by embedding it
			keys, inPage := own.keys("config"), firstColumn(page, "key")
			// Keys of small objects are in the column of types; those that
			// runtimes set, in a table of their own.
			documented := words(strings.Join(slices.Concat(inPage, column(page, "key", 2), firstColumn(page, "where")), " "))
			for _, key := range slices.Sorted(maps.Keys(keys)) {
				if !documented[key] {
					t.Errorf("key %q is in no table of %s/README.md", key, dir)
				}
			}
			for _, key := range slices.Sorted(maps.Keys(words(strings.Join(inPage, " ")))) {
				if !keys[key] && !base[key] {
					t.Errorf("%s/README.md: the configuration has no key %q", dir, key)
				}
			}
		})
	}
}

// source is the struct types of a package, by name.
type source map[string]*ast.StructType

func parse(t *testing.T, dir string) source {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(testnet.Root(), dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	s := source{}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if st, ok := spec.Type.(*ast.StructType); ok {
					s[spec.Name.Name] = st
				}
			}
			return true
		})
	}
	return s
}

// keys returns the JSON keys of a type of the package, and of what it holds.
func (s source) keys(name string) map[string]bool {
	out := map[string]bool{}
	s.collect(s[name], out)
	return out
}

func (s source) collect(st *ast.StructType, out map[string]bool) {
	for _, f := range st.Fields.List {
		key := ""
		if f.Tag != nil {
			tag, _ := strconv.Unquote(f.Tag.Value)
			key, _, _ = strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		}
		inner := s.structOf(f.Type)
		embedded := len(f.Names) == 0
		if key == "" && !embedded {
			continue // derived, not decoded
		}
		if key != "" && key != "args" && key != "runtimeConfig" && key != "cni" {
			out[key] = true
		}
		if inner != nil {
			s.collect(inner, out)
		}
	}
}

// structOf returns the struct of the package that a type is, points to, or lists.
func (s source) structOf(t ast.Expr) *ast.StructType {
	switch t := t.(type) {
	case *ast.StructType:
		return t
	case *ast.StarExpr:
		return s.structOf(t.X)
	case *ast.ArrayType:
		return s.structOf(t.Elt)
	case *ast.Ident:
		return s[t.Name]
	case *ast.SelectorExpr:
		return s[fmt.Sprint(t.X, ".", t.Sel)]
	}
	return nil
}

// TestDocsCodes: the README lists exactly the codes of pkg/cni, and that with
// which the CNI library refuses a version.
func TestDocsCodes(t *testing.T) {
	var want []string
	for _, code := range append(codes(t), types.ErrIncompatibleCNIVersion) {
		want = append(want, strconv.Itoa(int(code)))
	}
	found := firstColumn(read(t, "README.md"), "code")
	slices.Sort(want)
	slices.Sort(found)
	if !slices.Equal(found, want) {
		t.Errorf("README.md lists the codes %v, want %v as in pkg/cni/error.go", found, want)
	}
	for path, text := range documents(t) {
		for _, code := range firstColumn(text, "code") {
			if !slices.Contains(want, code) {
				t.Errorf("%s: no plugin answers %q", path, code)
			}
		}
	}
}

// codes returns the values of the constants in pkg/cni/error.go.
func codes(t *testing.T) (out []uint) {
	t.Helper()
	spec := map[string]uint{
		"ErrInvalidEnvironmentVariables": types.ErrInvalidEnvironmentVariables,
		"ErrIOFailure":                   types.ErrIOFailure,
		"ErrDecodingFailure":             types.ErrDecodingFailure,
		"ErrInvalidNetworkConfig":        types.ErrInvalidNetworkConfig,
		"ErrInvalidNetNS":                types.ErrInvalidNetNS,
		"ErrTryAgainLater":               types.ErrTryAgainLater,
		"ErrInternal":                    types.ErrInternal,
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(testnet.Root(), "pkg/cni/error.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		c, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(c.Names[0].Name, "Code") || len(c.Values) != 1 {
			return true
		}
		switch v := c.Values[0].(type) {
		case *ast.BasicLit:
			code, _ := strconv.Atoi(v.Value)
			out = append(out, uint(code))
		case *ast.SelectorExpr:
			code, ok := spec[v.Sel.Name]
			if !ok {
				t.Errorf("%s is not known here; add it", v.Sel.Name)
			}
			out = append(out, code)
		}
		return true
	})
	return out
}

// TestDocsArchitecture: ARCHITECTURE.md is short, names each package, and the
// functions that test the laws.
func TestDocsArchitecture(t *testing.T) {
	const limit = 300
	text := read(t, "ARCHITECTURE.md")
	if n := strings.Count(text, "\n"); n > limit {
		t.Errorf("ARCHITECTURE.md has %d lines, at most %d", n, limit)
	}
	var want []string
	for _, dir := range packages(t) {
		want = append(want, "`"+dir+"`")
	}
	slices.Sort(want)
	found := firstColumn(text, "package")
	slices.Sort(found)
	if !slices.Equal(found, want) {
		t.Errorf("ARCHITECTURE.md describes %v, want %v", found, want)
	}
	tests := testSource(t)
	for _, l := range laws {
		name := l.name[:1] + ". "
		if !strings.Contains(text, "| "+name) {
			t.Errorf("ARCHITECTURE.md does not have law %s", l.name)
		}
	}
	for _, f := range regexp.MustCompile("`(Test[A-Z]\\w+|[a-z]+[A-Z]\\w+)`").FindAllStringSubmatch(section(text, "## The laws"), -1) {
		if f[1] != "prevResult" && !bytes.Contains(tests, []byte("func "+f[1]+"(")) {
			t.Errorf("ARCHITECTURE.md: no test has a function %s", f[1])
		}
	}
}

// packages lists the folders below pkg that hold Go files, as paths from the root.
func packages(t *testing.T) (dirs []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(testnet.Root()), "pkg", func(file string, _ fs.DirEntry, err error) error {
		if dir := path.Dir(file); err == nil && strings.HasSuffix(file, ".go") && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

func section(text, heading string) string {
	_, text, _ = strings.Cut(text, heading+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

func testSource(t *testing.T) (all []byte) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(testnet.Root(), "integration", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// TestDocsExamplesAreJSON: what people copy is well-formed, and named as its file.
func TestDocsExamplesAreJSON(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(testnet.Root(), "conf-examples", "*.conflist"))
	if err != nil || len(paths) == 0 {
		t.Fatal("conf-examples: ", err)
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		var list struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(b, &list); err != nil || list.Name+".conflist" != filepath.Base(p) {
			t.Errorf("%s: network %q, %v", p, list.Name, err)
		}
	}
}
