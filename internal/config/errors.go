package config

import (
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong with the configuration. Load joins them with
// errors.Join; errors.As finds the first.
type Error struct {
	Key     string // the setting's key; "" when it is about no one setting
	Source  string // where the user wrote it: a flag, a variable, or file:line: key; "" is the default
	Value   string // quoted, and cut when long; "" when it must not be shown or there is none
	Problem string // what is wrong
	Hint    string // what to do

	also string // another key that it is about
}

// Error is one sentence: where, what was written, what is wrong, what to do.
func (e *Error) Error() string {
	where := e.Source
	if where == "" {
		where = e.Key
	}
	if e.Value != "" {
		where += " " + clip(e.Value)
	}
	return fmt.Sprintf("parse config: %s: %s; %s", where, e.Problem, e.Hint)
}

// about reports whether a fault of key is enough to make e not worth saying.
func (e *Error) about(key string) bool { return e.Key == key || e.also == key }

// clip keeps a sentence readable when the value is a whole file by mistake.
func clip(text string) string {
	const most = 120
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// unknownEnv says that the variable is no setting, though it looks like one; nil when it does
// not.
func unknownEnv(name string) *Error {
	typed := strings.TrimPrefix(name, envPrefix)
	s, d := nearest(typed)
	if d > max(1, len(typed)/4) { // closer than for a key, which can be nobody else's
		return nil
	}
	return &Error{Source: name, Problem: "unknown variable", Hint: fmt.Sprintf("did you mean %s?", s.Env())}
}

// unknownKey says that the key, which stands at where, is no setting. A key with
// others beneath it is a section, and is meant for one.
func unknownKey(key, where string, section bool) *Error {
	e := &Error{Source: where + ": " + key, Problem: "unknown key"}
	near, ok := nearestSection(key)
	if !section {
		var s Setting
		s, ok = nearestSetting(key)
		near = s.Key
	}
	if ok {
		e.Hint = fmt.Sprintf("did you mean %s?", near)
		return e
	}
	parent, _ := cutLast(key)
	e.Hint = knownIn(parent)
	return e
}

// knownIn lists what may stand directly in the section; "" is the top.
func knownIn(section string) string {
	var names []string
	for _, key := range append(sections(), keys()...) {
		if parent, last := cutLast(key); parent == section {
			names = append(names, last)
		}
	}
	if section == "" {
		section = "the file"
	}
	return fmt.Sprintf("the keys in %s are %s", section, strings.Join(names, ", "))
}

func keys() []string {
	all := make([]string, len(settings))
	for i, s := range settings {
		all[i] = s.Key
	}
	return all
}

// cutLast splits a key before its last part; the parent of a first is "".
func cutLast(key string) (parent, last string) {
	i := strings.LastIndexByte(key, '.')
	if i < 0 {
		return "", key
	}
	return key[:i], key[i+1:]
}

// nearestSetting finds the setting that was most likely meant by what was typed:
// by its key, its flag, or, when it stands in the wrong section, its last part.
func nearestSetting(typed string) (Setting, bool) {
	s, d := nearest(typed)
	return s, near(typed, d)
}

// nearest tells how far it is, too.
func nearest(typed string) (Setting, int) {
	best, least := -1, 0
	for i, s := range settings {
		_, last := cutLast(s.Key)
		d := min(distance(typed, s.Key), distance(typed, s.Flag), lastDistance(typed, s.Flag), lastDistance(typed, last)+1)
		if best < 0 || d < least {
			best, least = i, d
		}
	}
	return settings[best], least
}

func nearestSection(typed string) (string, bool) {
	names := sections()
	of := func(name string) int {
		_, last := cutLast(name)
		return min(distance(typed, name), lastDistance(typed, last)+1)
	}
	best := slices.MinFunc(names, func(a, b string) int { return of(a) - of(b) })
	return best, near(typed, of(best))
}

// near reports whether a word that far from what was typed is worth naming.
func near(typed string, d int) bool {
	_, last := cutLast(typed)
	return d <= max(1, min(len(last)/2, 4))
}

func lastDistance(typed, name string) int {
	_, last := cutLast(typed)
	return distance(last, name)
}

// alike folds what people confuse: the case, and the mark between words.
var alike = strings.NewReplacer("-", "_", ".", "_")

// distance is how many bytes to insert, delete or replace to come from a to b
// (Levenshtein), after folding.
func distance(a, b string) int {
	a, b = alike.Replace(strings.ToLower(a)), alike.Replace(strings.ToLower(b))
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
