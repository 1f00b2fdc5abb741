package live

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Settings are those that are set, by key, each as a person would type it.
type Settings map[string]string

// Key is one setting that there may be.
type Key struct {
	Name  string
	Rule  string // what is allowed, for people
	Usage string // what it is
}

// Schema says which settings there may be.
type Schema struct {
	Keys []Key
	// Check tells all that is wrong with settings whose keys are known.
	Check func(Settings) error
}

// Has tells whether there may be such a key.
func (s Schema) Has(name string) bool {
	return slices.ContainsFunc(s.Keys, func(k Key) bool { return k.Name == name })
}

// Refused says why settings are not stored, or not used.
type Refused struct{ Why error }

func (r *Refused) Error() string { return r.Why.Error() }
func (r *Refused) Unwrap() error { return r.Why }

// Refuse is nil, or a *Refused with all that is wrong with the settings.
func (s Schema) Refuse(settings Settings) error {
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if !s.Has(name) {
			wrong = append(wrong, fmt.Errorf("there is no key %q; the keys are %s", name, s.names()))
		}
	}
	if len(wrong) == 0 {
		wrong = append(wrong, s.Check(settings))
	}
	if err := errors.Join(wrong...); err != nil {
		return &Refused{err}
	}
	return nil
}

func (s Schema) names() string {
	var names []string
	for _, k := range s.Keys {
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ")
}

// Value is what a node says. With Damaged the settings are not to be used: whoever has
// older ones keeps them.
type Value struct {
	Settings Settings
	Version  int32
	At       time.Time
	Exists   bool  // false: nothing is set, since there is no node
	Damaged  error // why this is no configuration

	changes []string
	node    Snapshot
}

// Raw is the node's data as it stands.
func (v Value) Raw() []byte { return v.node.Data }

// changesKey is where the node tells which changes made it. A key of a schema is never
// called so.
const changesKey = "changes"

// mostChanges is how many of its last changes a node remembers: as many as others may
// make between a change whose answer was lost and the look for it.
const mostChanges = 16

// Value reads a node. One without data is as good as none.
func (s Schema) Value(node Snapshot) Value {
	v := Value{Settings: Settings{}, Version: node.Version, At: node.At, Exists: node.Exists && len(node.Data) > 0, node: node}
	if !v.Exists {
		return v
	}
	settings, changes, err := decode(node.Data)
	if err == nil {
		err = s.Refuse(settings)
	}
	if err != nil {
		v.Damaged = fmt.Errorf("version %d is no configuration: %w", node.Version, err)
		return v
	}
	v.Settings, v.changes = settings, changes
	return v
}

// decode reads an object of texts, numbers and booleans.
func decode(data []byte) (Settings, []string, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var fields map[string]any
	if err := d.Decode(&fields); err != nil {
		return nil, nil, fmt.Errorf("not a JSON object: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) || fields == nil {
		return nil, nil, errors.New("not one JSON object")
	}
	settings, changes := Settings{}, []string(nil)
	for name, field := range fields {
		switch field := field.(type) {
		case string:
			settings[name] = field
		case json.Number:
			settings[name] = field.String()
		case bool:
			settings[name] = strconv.FormatBool(field)
		case []any:
			for _, id := range field {
				if text, ok := id.(string); ok && name == changesKey {
					changes = append(changes, text)
				}
			}
			if name != changesKey {
				return nil, nil, fmt.Errorf("%s is a list", name)
			}
		default:
			return nil, nil, fmt.Errorf("%s is neither a text nor a number nor true or false", name)
		}
	}
	return settings, changes, nil
}

// encode is decode's opposite; keys come in their order.
func encode(settings Settings, changes []string) []byte {
	fields := map[string]any{changesKey: changes[max(0, len(changes)-mostChanges):]}
	for name := range settings {
		fields[name] = settings.JSON(name)
	}
	data, err := json.Marshal(fields)
	if err != nil {
		panic(err) // texts, and what is JSON already
	}
	return data
}

// natural is text as JSON writes such a value.
func natural(text string) any {
	if n, err := strconv.Atoi(text); err == nil && strconv.Itoa(n) == text {
		return n
	}
	if b, err := strconv.ParseBool(text); err == nil && strconv.FormatBool(b) == text {
		return b
	}
	return text
}

// JSON is one setting as the node has it.
func (s Settings) JSON(name string) json.RawMessage {
	data, err := json.Marshal(natural(s[name]))
	if err != nil {
		panic(err) // a text, a whole number or a boolean
	}
	return data
}

// MarshalJSON writes the settings as the node has them.
func (s Settings) MarshalJSON() ([]byte, error) {
	fields := make(map[string]json.RawMessage, len(s))
	for name := range s {
		fields[name] = s.JSON(name)
	}
	return json.Marshal(fields)
}

// String is the settings as they are typed, in the keys' order.
func (s Settings) String() string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		pairs = append(pairs, name+"="+s[name])
	}
	return strings.Join(pairs, " ")
}

// Same tells whether both are of the node in the same state.
func (v Value) Same(w Value) bool {
	return v.node.same(w.node) || !v.Exists && !w.Exists
}
