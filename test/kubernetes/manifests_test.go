package kubernetes

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root    = "../.."
	deploy  = root + "/deploy/kubernetes"
	compose = root + "/docker-compose.yml"
)

// findings builds what is in dir and says all that is wrong with it; an error of the build is
// of the rule "build".
func findings(t *testing.T, dir string) []Finding {
	t.Helper()
	m, err := Load(dir)
	if err != nil {
		return []Finding{{Rule: "build", Text: err.Error()}}
	}
	found, err := CheckCompose(m, compose)
	if err != nil {
		t.Fatal(err)
	}
	return append(Check(m), found...)
}

func TestManifestsFitTogether(t *testing.T) {
	for _, f := range findings(t, deploy) {
		t.Errorf("%s: %s", f.Rule, f.Text)
	}
}

func TestWhatIsThere(t *testing.T) {
	m, err := Load(deploy)
	if err != nil {
		t.Fatal(err)
	}
	var is []string
	for _, w := range m.Workloads {
		for _, c := range w.Containers() {
			is = append(is, w.String()+" "+image(c))
		}
	}
	want := []string{
		"Deployment agent turnstile-agent",
		"Deployment tickets turnstile-tickets", // init
		"Deployment tickets turnstile-tickets",
		"StatefulSet zookeeper zookeeper",
	}
	if slices.Sort(is); !slices.Equal(is, want) {
		t.Errorf("there is %q, not %q", is, want)
	}
}

// TestTheOverlayOfThePage builds the overlay that docs/kubernetes.md shows.
func TestTheOverlayOfThePage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(# deploy/mine/kustomization.yaml\n.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatal("docs/kubernetes.md shows no deploy/mine/kustomization.yaml")
	}
	dir := copyOf(t)
	overlay := filepath.Join(filepath.Dir(dir), "mine")
	if err := os.Mkdir(overlay, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(overlay, "kustomization.yaml"), string(block[1]))
	m, err := Load(overlay)
	if err != nil {
		t.Fatal(err)
	}
	m.Secrets, err = readSecrets(dir) // the base's
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Check(m) {
		t.Errorf("%s: %s", f.Rule, f.Text)
	}
	if class := m.Claims["shared-data"].Spec.StorageClassName; class == nil || *class == "" {
		t.Error("the overlay names no storage class for the shared file")
	}
	for _, w := range m.Workloads {
		for _, c := range w.Containers() {
			if image(c) != "zookeeper" && !strings.Contains(c.Image, "/") {
				t.Errorf("%s: the overlay leaves %s in no registry", w, c.Image)
			}
		}
	}
}

// copyOf returns a copy of the kustomization, to be broken.
func copyOf(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "kubernetes")
	if err := os.CopyFS(dir, os.DirFS(deploy)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestEachCheckCanFail breaks a copy in one place at a time. Whatever check.go and compose.go
// can say must be said of one of them.
func TestEachCheckCanFail(t *testing.T) {
	said := map[string]bool{}
	for _, b := range breakages {
		name := b.rule + ": " + strings.Join(strings.Fields(b.instead+" instead of "+b.is), " ")
		t.Run(name, func(t *testing.T) {
			dir := copyOf(t)
			file := filepath.Join(dir, b.file)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), b.is) {
				t.Fatalf("%s has no %q to break", b.file, b.is)
			}
			write(t, file, strings.Replace(string(text), b.is, b.instead, 1))
			found := findings(t, dir)
			i := slices.IndexFunc(found, func(f Finding) bool { return f.Rule == b.rule && strings.Contains(f.Text, b.says) })
			if i < 0 {
				t.Fatalf("not found by the rule %q with %q; found: %q", b.rule, b.says, found)
			}
			said[found[i].form] = true
		})
	}
	for _, form := range forms(t) {
		if !said[form] {
			t.Errorf("of nothing here it is said: %s", form)
		}
	}
}

// forms are the sentences of all checks.
func forms(t *testing.T) (all []string) {
	t.Helper()
	for _, file := range []string{"check.go", "compose.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sentences := regexp.MustCompile(`c\.find\("[^"]+", ("[^"]+")`).FindAllSubmatch(text, -1)
		if n := strings.Count(string(text), "c.find("); n == 0 || n != len(sentences) {
			t.Fatalf("%s: %d calls of find, and %d sentences read", file, n, len(sentences))
		}
		for _, m := range sentences {
			form, err := strconv.Unquote(string(m[1]))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, form)
		}
	}
	return all
}
