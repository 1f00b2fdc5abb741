package recipe_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// TestDocsShowTheExamples: each Go block in docs/recipes.md is an example's body, which
// runs, and each example is there.
func TestDocsShowTheExamples(t *testing.T) {
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/recipes.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for i, block := range strings.Split(string(text), "```") {
		if code, ok := strings.CutPrefix(block, "go\n"); ok && i%2 == 1 {
			shown[strings.TrimSpace(code)] = true
		}
	}
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, "example_test.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range parsed.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(f.Name.Name, "Example") {
			continue
		}
		body := string(source[files.Position(f.Body.Lbrace).Offset+1 : files.Position(f.Body.Rbrace).Offset])
		body, _, _ = strings.Cut(body, "\t// Output:")
		body = strings.TrimSpace(strings.ReplaceAll("\n"+body, "\n\t", "\n"))
		if !shown[body] {
			t.Errorf("docs/recipes.md does not show %s:\n%s", f.Name.Name, body)
		}
		delete(shown, body)
	}
	for code := range shown {
		t.Errorf("docs/recipes.md shows what is no example:\n%s", code)
	}
}
