// Package whisperpool_test holds the rules of the tree as tests: which room may import which, what
// the pure rooms may not do, how long a function may be. A rule that is not here or in the linter
// is not a rule.
package whisperpool_test

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/whisperpool/whisperpool"

// functionLinesMax is hard; a longer function has more than one thought in it.
const functionLinesMax = 70

// mayImport says which rooms of ours a room may import, by prefix of its path in the tree. A room
// may always import its own subpackages; the longest matching entry counts. Tests of the module as
// a whole (e2e) are processes beside the product and import what they like.
var mayImport = map[string][]string{
	"scheduler":             {},
	"policies":              {"scheduler"},
	"dispatcher":            {"scheduler", "policies"},
	"audio":                 {},
	"transcript":            {},
	"gpu":                   {},
	"upstream":              {"audio", "transcript", "gpu"},
	"caddymodule":           {"scheduler", "policies", "dispatcher", "upstream", "audio", "transcript", "gpu"},
	"backend":               {"audio", "transcript", "gpu"},
	"backend/whispercpp":    {"backend", "audio", "transcript", "gpu"},
	"backend/emulator":      {"backend", "audio", "transcript", "gpu"},
	"backend/convert":       {},
	"sim":                   {"scheduler", "policies", "gpu"},
	"cmd/whisperpool":       {"caddymodule", "sim", "scheduler", "policies", "audio", "gpu"},
	"cmd/whisperpool/bench": {"sim", "audio", "gpu"},
	"cmd/stage":             {},
	"cmd/bench-peers":       {"cmd/stage", "cmd/whisperpool/bench", "sim", "audio", "gpu"},
	"cmd/bench-backend":     {"cmd/stage", "cmd/whisperpool/bench", "audio", "transcript"},
	"cmd/whisper-backend":   {"backend", "audio", "transcript", "gpu"},
	"cmd/faults":            {"scheduler", "policies", "sim"}, // what needs no sockets is simulated
}

// onlyIn names modules that one room alone may import.
var onlyIn = map[string]string{
	"github.com/sony/gobreaker/v2":                 "scheduler/breaker",
	"github.com/ggerganov/whisper.cpp/bindings/go": "backend/whispercpp",
	"C": "backend/whispercpp",
}

// pure rooms get time and chance as arguments: nothing in them may look at a clock, start a
// goroutine, lock, log or do I/O.
var pure = []string{"scheduler", "policies"}

var pureBannedImports = []string{"sync", "sync/atomic", "context", "log", "log/slog", "net", "net/http", "os", "io", "crypto/rand", "math/rand", "testing/synctest"}

var pureBannedCalls = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"},
	"rand": {"Int", "IntN", "N", "Float64", "Perm", "Shuffle", "Uint64", "Int64", "NormFloat64", "ExpFloat64"},
}

var badNames = []string{"util", "utils", "common", "helpers", "helper", "types", "misc"}

type source struct {
	path string // slash-separated, from the top of the tree
	dir  string
	test bool
	text []byte
	file *ast.File
	fset *token.FileSet
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "node_modules") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		path = filepath.ToSlash(path)
		all = append(all, source{path, filepath.ToSlash(filepath.Dir(path)), strings.HasSuffix(path, "_test.go"), text, file, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d Go files found: this test must run at the top of the tree", len(all))
	}
	return all
}

// room is the entry of mayImport that governs a folder, "" when none does.
func room(dir string) string {
	for d := dir; d != "."; d = filepath.ToSlash(filepath.Dir(d)) {
		if _, ok := mayImport[d]; ok {
			return d
		}
	}
	return ""
}

func inside(dir, place string) bool { return dir == place || strings.HasPrefix(dir, place+"/") }

func importsOf(s source) []string {
	var paths []string
	for _, spec := range s.file.Imports {
		path, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
		paths = append(paths, path)
	}
	return paths
}

func TestImportsGoOneWay(t *testing.T) {
	for _, s := range sources(t) {
		for _, path := range importsOf(s) {
			for mod, place := range onlyIn {
				if inside(path, mod) && !inside(s.dir, place) {
					t.Errorf("%s imports %s, which only %s may", s.path, path, place)
				}
			}
			ours, ok := strings.CutPrefix(path, module+"/")
			if !ok || s.test && room(s.dir) != "scheduler" && room(s.dir) != "policies" {
				continue
			}
			from := room(s.dir)
			if from == "" {
				if s.dir != "." && !inside(s.dir, "e2e") {
					t.Errorf("%s: no rule says what %s may import; add one to mayImport", s.path, s.dir)
				}
				continue
			}
			allowed := inside(ours, from) || slices.ContainsFunc(mayImport[from], func(p string) bool { return inside(ours, p) })
			// The core's tests drive it with the real policies.
			if s.test && inside(ours, "policies") {
				allowed = true
			}
			if !allowed {
				t.Errorf("%s imports %s: %s may import only %v and what is below itself", s.path, ours, from, mayImport[from])
			}
		}
	}
}

func TestCoreIsPure(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || !slices.ContainsFunc(pure, func(p string) bool { return inside(s.dir, p) }) {
			continue
		}
		for _, path := range importsOf(s) {
			if slices.Contains(pureBannedImports, path) {
				t.Errorf("%s imports %s; time, chance and I/O come from outside", s.path, path)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: a goroutine in the core", s.fset.Position(n.Pos()))
			case *ast.SelectorExpr:
				if pkg, ok := n.X.(*ast.Ident); ok && pkg.Obj == nil && slices.Contains(pureBannedCalls[pkg.Name], n.Sel.Name) {
					t.Errorf("%s: %s.%s in the core; pass it in", s.fset.Position(n.Pos()), pkg.Name, n.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestFunctionsAreShort(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			if lines := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; lines > functionLinesMax {
				t.Errorf("%s: %s has %d lines, %d are allowed", s.fset.Position(f.Pos()), f.Name.Name, lines, functionLinesMax)
			}
		}
	}
}

func TestTestsDoNotSleep(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" && !bubbled(s) {
					t.Errorf("%s: time.Sleep in a test; wait for the condition, or use virtual time", s.fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

// bubbled: in a testing/synctest bubble sleeping is virtual.
func bubbled(s source) bool { return slices.Contains(importsOf(s), "testing/synctest") }

func TestNamesSayWhatThingsAre(t *testing.T) {
	for _, s := range sources(t) {
		base := strings.TrimSuffix(filepath.Base(s.path), ".go")
		if slices.Contains(badNames, base) || slices.Contains(badNames, filepath.Base(s.dir)) {
			t.Errorf("%s: a name that says nothing", s.path)
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test {
			documented[s.dir] = documented[s.dir] || s.file.Doc != nil
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

func TestSourceIsFormatted(t *testing.T) {
	for _, s := range sources(t) {
		formatted, err := format.Source(s.text)
		if err != nil || !bytes.Equal(formatted, s.text) {
			t.Errorf("%s: run gofmt", s.path)
		}
	}
}
