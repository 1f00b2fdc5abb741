package queue

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// ledger is Lifelines that only writes down what is asked of it.
type ledger struct {
	t       *testing.T
	open    []string // watches
	asked   int
	unknown bool
	silent  bool // nobody is told of a death
}

func (l *ledger) Hold(name string) (string, func(), error) {
	if l.unknown {
		return "", nil, errors.New("unknown")
	}
	l.open = append(l.open, "own "+name)
	return name + ".life", func() { l.close("own " + name) }, nil
}

func (l *ledger) Watch(name string) (<-chan struct{}, func(), error) {
	l.asked++
	if l.unknown {
		return nil, nil, errors.New("unknown")
	}
	l.open = append(l.open, name)
	return make(chan struct{}), func() { l.close(name) }, nil
}

func (l *ledger) Tells(string) bool { return !l.silent }

func (l *ledger) Sweep(func() ([]string, error)) error { return nil }

func (l *ledger) close(name string) {
	i := slices.Index(l.open, name)
	if i < 0 {
		l.t.Fatalf("%s was closed twice", name)
	}
	l.open = slices.Delete(l.open, i, i+1)
}

func (l *ledger) want(asked int, open string) {
	l.t.Helper()
	if got := strings.Join(l.open, ", "); l.asked != asked || got != open {
		l.t.Errorf("asked %d times, open: %s; want %d, %s", l.asked, got, asked, open)
	}
}

// Turns that go round cost one watch, and there is never more than one.
func TestTheWatchOnTheAgentBeforeUsIsKept(t *testing.T) {
	lines := &ledger{t: t}
	l := BeginLife(lines, "me", zap.NewNop())
	first := l.Watch(Member{Life: "a"})
	if again := l.Watch(Member{Life: "a"}); again != first || first == nil {
		t.Error("another watch on the same life")
	}
	lines.want(1, "own me, a")
	if other := l.Watch(Member{Life: "b"}); other == first {
		t.Error("b's death is told by a's")
	}
	lines.want(2, "own me, b")
	lines.unknown = true
	for n := range 2 { // what is unknown may be known the next time
		if died := l.Watch(Member{Life: "c"}); died != nil {
			t.Error("something is known of c")
		}
		lines.want(3+n, "own me")
	}
	lines.unknown = false
	l.Watch(Member{Life: "c"})
	lines.want(5, "own me, c")
	l.End()
	lines.want(5, "")
}

// Where nobody is told of a death, who runs there says so, once.
func TestBeginLife_saysWhereNobodyIsToldOfItsEnd(t *testing.T) {
	for _, silent := range []bool{false, true} {
		core, said := observer.New(zap.InfoLevel)
		l := BeginLife(&ledger{t: t, silent: silent}, "me", zap.New(core))
		l.Watch(Member{Life: "a"})
		l.Watch(Member{Life: "b"})
		l.End()
		if n := said.FilterMessageSnippet("wait until its session expires").Len(); n != map[bool]int{true: 1}[silent] || said.Len() != n {
			t.Errorf("silent %v: it says %v", silent, said.All())
		}
	}
}

func TestWithoutLifelinesNothingIsKnown(t *testing.T) {
	l := BeginLife(nil, "me", zap.NewNop())
	l.Sweep(func() ([]string, error) { return nil, fmt.Errorf("asked") })
	if died := l.Watch(Member{Life: "a"}); died != nil || l.name != "" {
		t.Errorf("%v, %q", died, l.name)
	}
	l.End()
}
