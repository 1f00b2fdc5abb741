// Package internal_test holds the house to its plan: data flows one way, config →
// session → filelock → writer → file, and the verifier trusts none of them.
package internal_test

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/turnstile-fleet/turnstile/"

// mayImport is the table of docs/design.md: what each package may use of ours.
var mayImport = map[string][]string{
	"internal/config":   {},
	"internal/session":  {},
	"internal/filelock": {"internal/session"},
	"internal/frame":    {},
	"internal/writer":   {"internal/frame"},
	"internal/fleet":    {"internal/filelock", "internal/writer", "internal/frame", "internal/session"},
	"internal/verify":   {"internal/frame"},
	"internal/zkdev":    {},
	"internal/zktest":   {"internal/zkdev"},
}

// because says why an edge that somebody may want is forbidden.
var because = map[string]string{
	"internal/writer → internal/filelock":  "the writer is handed a token, a head and a context, and keeps the volume safe whatever the lock does",
	"internal/writer → internal/session":   "the flock must never be held across a call to ZooKeeper",
	"internal/filelock → internal/frame":   "what head means is the format's business; the lock commits bytes",
	"internal/verify → internal/writer":    "the verifier must not share the writer's mistakes",
	"internal/verify → internal/filelock":  "the verifier judges bytes and a head that it is given",
	"internal/session → internal/config":   "only cmd/agent turns configuration into options",
	"internal/filelock → internal/config":  "only cmd/agent turns configuration into options",
	"internal/writer → internal/config":    "only cmd/agent turns configuration into options",
	"internal/fleet → internal/config":     "only cmd/agent turns configuration into options",
	"internal/frame → internal/writer":     "the format knows nothing of who writes it",
	"internal/session → internal/filelock": "a session does not know what it is used for",
}

func TestPackagesImportOnlyWhatTheDesignAllows(t *testing.T) {
	for _, dir := range packages(t) {
		allowed, listed := mayImport[dir]
		if !listed {
			t.Errorf("%s is not in the table: say in docs/design.md and here what it may import", dir)
			continue
		}
		for _, imported := range imports(t, dir) {
			if !slices.Contains(allowed, imported) {
				t.Errorf("%s must not import %s: %s", dir, imported, because[dir+" → "+imported])
			}
		}
	}
}

// TestOnlyTestsUseTestHelpers keeps the test server out of the binary.
func TestOnlyTestsUseTestHelpers(t *testing.T) {
	for _, dir := range append(packages(t), "cmd/agent") {
		if slices.Contains(imports(t, dir), "internal/zktest") {
			t.Errorf("%s uses internal/zktest outside its tests", dir)
		}
	}
}

func packages(t *testing.T) (dirs []string) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, "internal/"+e.Name())
		}
	}
	return dirs
}

// imports lists what the package's files, tests left out, import of ours.
func imports(t *testing.T, dir string) (ours []string) {
	files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files in %s: %v", dir, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if own, ok := strings.CutPrefix(path, module); ok {
				ours = append(ours, own)
			}
		}
	}
	return ours
}
