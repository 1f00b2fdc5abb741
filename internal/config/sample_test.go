package config

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const sample = "../../configs/agent.yaml"

func TestTheSampleHasEverySettingWithItsDefault(t *testing.T) {
	found, errs := readFile(filePath{name: sample, given: true})
	for _, err := range errs {
		t.Error(err)
	}
	for _, s := range settings {
		if e, ok := found[s.Key]; !ok || e.text != s.Default {
			t.Errorf("%s is %q (there: %v), its default is %q", s.Key, e.text, ok, s.Default)
		}
	}
	got := mustLoad(t, given{env: []string{configEnv + "=" + sample}})
	got.zookeeperSet = false
	if want := mustLoad(t, given{}); !reflect.DeepEqual(got, want) {
		t.Errorf("the sample is %+v\nthe defaults are %+v", got, want)
	}
}

// variable and flag find what a comment names.
var (
	variable = regexp.MustCompile(`variable (TURNSTILE_[A-Z_]+)\.$`)
	flag     = regexp.MustCompile(`Flag --([a-z-]+),`)
)

func TestTheSamplesCommentsAreTheTables(t *testing.T) {
	comments, order := sampleComments(t)
	for _, s := range settings {
		text := comments[s.Key]
		if m := flag.FindStringSubmatch(text); m == nil || m[1] != s.Flag {
			t.Errorf("%s: the comment's flag is %q, want --%s", s.Key, m, s.Flag)
		}
		if m := variable.FindStringSubmatch(text); m == nil || m[1] != s.Env() {
			t.Errorf("%s: the comment's variable is %q, want %s", s.Key, m, s.Env())
		}
		if !strings.Contains(text, "Allowed: "+s.Rule()+".") {
			t.Errorf("%s: the comment does not say %q: %s", s.Key, s.Rule(), text)
		}
	}
	if !slices.Equal(order, keys()) {
		t.Errorf("the sample's order is %q\nthe table's %q", order, keys())
	}
}

// sampleComments returns the comment above each setting, as one line, and the
// settings in their order.
func sampleComments(t testing.TB) (map[string]string, []string) {
	t.Helper()
	text, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	root, what := parseYAML(string(text))
	if what != "" {
		t.Fatal(what)
	}
	comments, order := map[string]string{}, []string(nil)
	var visit func(prefix string, n *yaml.Node)
	visit = func(prefix string, n *yaml.Node) {
		for i := 0; i < len(n.Content); i += 2 {
			name, value := n.Content[i], n.Content[i+1]
			key := prefix + name.Value
			if value.Kind == yaml.MappingNode {
				visit(key+".", value)
				continue
			}
			order = append(order, key)
			comment := strings.ReplaceAll(name.HeadComment, "\n# ", " ")
			comments[key] = strings.TrimPrefix(comment, "# ")
		}
	}
	visit("", root)
	return comments, order
}

func TestTheTableIsSound(t *testing.T) {
	seen := map[string]string{configFlag: "--config", configEnv: "--config"}
	for _, s := range Settings() {
		for _, name := range []string{s.Key, s.Flag, s.Env()} {
			if other, ok := seen[name]; ok && other != s.Key {
				t.Errorf("%s and %s are both called %s", s.Key, other, name)
			}
			seen[name] = s.Key
		}
		if _, p := s.kind.parse(s.Default); p != nil {
			t.Errorf("%s: its own default %q is refused: %s", s.Key, s.Default, p.what)
		}
		if s.Usage == "" || s.Rule() == "" || slices.Contains(sections(), s.Key) {
			t.Errorf("%s has no usage or no rule, or is a section too", s.Key)
		}
	}
}
