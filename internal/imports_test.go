// Package internal_test holds the house to its plan: data flows one way, source → fleet →
// queue and filelock → commit → file, and the verifier trusts none of them.
package internal_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/turnstile-fleet/turnstile/"

// mayImport is the table of docs/design.md: what each package may use of ours. What is not
// under internal/ others import too.
var mayImport = map[string][]string{
	"internal/config":         {},
	"session":                 {},
	"internal/queue":          {"session"},
	"internal/filelock":       {"internal/queue", "session", "internal/frame"},
	"internal/lifeline":       {},
	"internal/frame":          {},
	"internal/writer":         {"internal/frame"},
	"internal/intake":         {"internal/frame"},
	"internal/fleet":          {"internal/intake", "internal/queue", "internal/filelock", "internal/writer", "internal/frame", "session"},
	"internal/verify":         {"internal/frame"},
	"internal/volume":         {"internal/writer"},
	"internal/meeting":        {"internal/queue", "session"},
	"internal/zkdev":          {},
	"zkdev":                   {"internal/zkdev"},
	"internal/adopt":          {"internal/queue", "internal/filelock", "internal/writer", "internal/frame", "internal/verify"},
	"internal/child":          {},
	"internal/audit":          {"internal/recipe/elect", "internal/follow", "internal/filelock", "internal/queue", "session", "internal/verify", "internal/frame"},
	"internal/follow":         {"internal/filelock", "internal/queue", "internal/frame"},
	"internal/recipe":         {},
	"recipe/lock":             {"internal/recipe/ids", "internal/queue", "session"},
	"internal/recipe/ids":     {"internal/queue", "session"},
	"internal/recipe/elect":   {"internal/queue", "session"},
	"internal/recipe/barrier": {"internal/queue", "session"},
	"internal/recipe/live":    {"internal/queue", "session"},
	"internal/recipe/inbox":   {"internal/queue", "session", "internal/frame"},
}

// because says why an edge that somebody may want is forbidden.
var because = map[string]string{
	"internal/writer → internal/filelock": "the writer is handed bytes and where they belong; what may be written was decided before, by the commit",
	"internal/writer → session":           "the file must never wait for ZooKeeper",
	"internal/verify → internal/writer":   "the verifier must not share the writer's mistakes",
	"internal/verify → internal/follow":   "the verifier must not share what others read the file with",
	"internal/follow → internal/writer":   "whoever follows is handed the file, opened as its volume wants it",
	"internal/verify → internal/filelock": "the verifier judges bytes and a head that it is given",
	"internal/volume → internal/meeting":  "what is tried of a volume does not know how its machines found each other",
	"session → internal/config":           "only cmd/agent turns configuration into options",
	"internal/filelock → internal/config": "only cmd/agent turns configuration into options",
	"internal/writer → internal/config":   "only cmd/agent turns configuration into options",
	"internal/fleet → internal/config":    "only cmd/agent turns configuration into options",
	"internal/frame → internal/writer":    "the format knows nothing of who writes it",
	"session → internal/filelock":         "a session does not know what it is used for",
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

// TestTheProductImportsNothingOfTest keeps what only tests use out of the binary.
func TestTheProductImportsNothingOfTest(t *testing.T) {
	for _, dir := range append(packages(t), "cmd/agent") {
		for _, imported := range imports(t, dir) {
			if strings.HasPrefix(imported, "test/") {
				t.Errorf("%s must not import %s: what is under test/ is for tests alone", dir, imported)
			}
		}
	}
}

func packages(t *testing.T) (dirs []string) {
	for _, where := range []string{"internal/*", "internal/*/*", "session", "recipe/*", "zkdev"} {
		files, err := filepath.Glob(filepath.Join("..", where, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(where, err)
		}
		for _, file := range files {
			dir, err := filepath.Rel("..", filepath.Dir(file))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(file, "_test.go") && !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
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
