package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// filePath is the configuration file's name and who gave it.
type filePath struct {
	name, source string
	given        bool
	found        bool // in the working directory: nobody named it
}

// document is a configuration file's settings, by key.
type document map[string]entry

// entry is a value as it was written, and where: "agent.yaml:12".
type entry struct{ text, where string }

// maxFile is far more than any configuration; it is there so that a data file
// named by mistake is not read whole.
const maxFile = 1 << 20

// readFile reads the YAML file. It is parsed to nodes rather than by viper itself,
// for the sake of line numbers, of keys that stand twice, and of values exactly
// as they were written (to YAML, `name: no` is false and 1e3 a number).
func readFile(path filePath) (document, []*Error) {
	fail := func(what, hint string) []*Error {
		return []*Error{{Source: path.source, Value: strconv.Quote(path.name), Problem: what, Hint: hint}}
	}
	if path.name == "" {
		return nil, fail("no file", "name a YAML file, or leave "+path.source+" out")
	}
	f, err := os.Open(path.name)
	if err != nil {
		return nil, fail(reason(err), "name a YAML file that can be read; configs/agent.yaml is a sample")
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fail(reason(err), "name a YAML file that can be read; configs/agent.yaml is a sample")
	}
	if len(text) > maxFile {
		return nil, fail("larger than 1 MiB", "name a YAML file of settings; configs/agent.yaml is a sample")
	}
	root, what := parseYAML(string(text))
	if what != "" {
		return nil, fail(what, "compare it with configs/agent.yaml")
	}
	w := walk{name: path.name, found: document{}}
	if root != nil {
		w.section("", root)
	}
	return w.found, w.errs
}

// parseYAML returns the one document's root, nil when there is nothing in it,
// or what is wrong.
func parseYAML(text string) (*yaml.Node, string) {
	d := yaml.NewDecoder(strings.NewReader(text))
	var doc, next yaml.Node
	err := d.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, ""
	}
	if err != nil {
		return nil, "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")
	}
	if err := d.Decode(&next); !errors.Is(err, io.EOF) {
		return nil, "more than one YAML document"
	}
	root := doc.Content[0]
	if isNull(root) {
		return nil, ""
	}
	if root.Kind != yaml.MappingNode {
		return nil, "not a list of `key: value`"
	}
	return root, ""
}

// isNull reports whether nothing was written, as `tls:` with only comments
// beneath it.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// walk gathers a file's settings and what is wrong with it.
type walk struct {
	name  string // the file's
	found document
	errs  []*Error
}

func (w *walk) fail(key string, n *yaml.Node, what, hint string) {
	w.errs = append(w.errs, &Error{Key: key, Source: w.where(n) + ": " + key, Problem: what, Hint: hint})
}

func (w *walk) where(n *yaml.Node) string { return fmt.Sprintf("%s:%d", w.name, n.Line) }

// section takes the keys of a mapping, whose own key is prefix.
func (w *walk) section(prefix string, n *yaml.Node) {
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		key := name.Value
		if prefix != "" {
			key = prefix + "." + key
		}
		if line, ok := lines[key]; ok {
			w.fail(key, name, fmt.Sprintf("stands a second time, first in line %d", line), "keep one of them")
			continue
		}
		lines[key] = name.Line
		w.key(key, name, value)
	}
}

// key takes one key and what it holds.
func (w *walk) key(key string, name, value *yaml.Node) {
	s, known := find(key)
	inner := slices.Contains(sections(), key)
	switch {
	case inner && value.Kind == yaml.MappingNode:
		w.section(key, value)
	case inner && isNull(value):
	case inner:
		w.fail(key, name, "a section, not a setting", "put settings beneath it: "+knownIn(key))
	case !known:
		w.errs = append(w.errs, unknownKey(key, w.where(name), value.Kind == yaml.MappingNode))
	case isNull(value):
		w.fail(key, name, "no value", `give it one ("" is an empty one), or take the line out`)
	default:
		w.value(s, name, value)
	}
}

// value takes a setting's text; a list becomes what a flag would have said.
func (w *walk) value(s Setting, name, value *yaml.Node) {
	switch {
	case value.Kind == yaml.ScalarNode:
		w.found[s.Key] = entry{value.Value, w.where(name)}
	case value.Kind == yaml.SequenceNode && s.kind.name == listKind:
		var items []string
		for _, item := range value.Content {
			if item.Kind != yaml.ScalarNode || isNull(item) {
				w.fail(s.Key, item, "an item that is no text", "write each as host:port")
				return
			}
			items = append(items, item.Value)
		}
		w.found[s.Key] = entry{strings.Join(items, ","), w.where(name)}
	default:
		w.fail(s.Key, name, "more than one value", "write "+s.Key+" as one value: "+s.Rule())
	}
}

// reason is an error of the os package without the path, which the sentence
// around it names already.
func reason(err error) string {
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		return pathErr.Op + ": " + pathErr.Err.Error()
	}
	return err.Error()
}
