package queue

import (
	"context"
	"encoding/json"
	"errors"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// counting is a session that writes down the requests about nodes.
type counting struct {
	*session.Session
	did chan string
}

func (c *counting) note(what, node string) { c.did <- what + " " + path.Base(node) }

func (c *counting) Get(ctx context.Context, node string) (session.Node, error) {
	c.note("get", node)
	return c.Session.Get(ctx, node)
}

func (c *counting) Watch(ctx context.Context, node string) (session.Node, error) {
	got, err := c.Session.Watch(ctx, node)
	c.note("watch", node) // and it is set
	return got, err
}

func (c *counting) Children(ctx context.Context, node string) ([]string, error) {
	c.note("list", node)
	return c.Session.Children(ctx, node)
}

// want takes what was asked, in order; "…" is any name.
func (c *counting) want(t *testing.T, all ...string) {
	t.Helper()
	for _, want := range all {
		select {
		case got := <-c.did:
			if got != want {
				t.Errorf("asked: %s, want %s", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("never asked: %s", want)
		}
	}
	select {
	case got := <-c.did:
		t.Errorf("asked more: %s", got)
	default:
	}
}

func dial(t *testing.T) *session.Session {
	t.Helper()
	sess, err := session.Dial(t.Context(), session.Options{
		Servers: strings.Split(zktest.Shared(t), ","), Timeout: 20 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sess.Close)
	return sess
}

// newLine is a line of the test's own, seen through a counting session.
func newLine(t *testing.T, unwatched bool) (*Line, *counting) {
	t.Helper()
	c := &counting{dial(t), make(chan string, 100)}
	dir := path.Join(zktest.Root(t), "line")
	if err := EnsurePath(t.Context(), c.Session, dir); err != nil {
		t.Fatal(err)
	}
	return &Line{Sess: c, Dir: dir, Log: zap.NewNop(), Unwatched: unwatched}, c
}

func join(t *testing.T, l *Line) *Place {
	t.Helper()
	place, err := l.Join(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return place
}

// adopted is a place that a transaction of ours made.
func adopted(t *testing.T, l *Line) *Place {
	t.Helper()
	results, err := l.Sess.Multi(t.Context(), &zk.CreateRequest{
		Path: l.Prefix(NewID()), Data: l.Card(), Acl: l.Sess.ACL(), Flags: zk.FlagEphemeral | zk.FlagSequence,
	})
	if err != nil {
		t.Fatal(err)
	}
	node, err := l.Sess.(*counting).Session.Get(t.Context(), results[0].String)
	if err != nil {
		t.Fatal(err)
	}
	place, err := l.Adopt(path.Base(results[0].String), uint64(node.Stat.Czxid))
	if err != nil {
		t.Fatal(err)
	}
	return place
}

// What each kind of place costs until its turn comes, with nobody in its way.
func TestAnUnwatchedPlaceCostsLess(t *testing.T) {
	for name, test := range map[string]struct {
		unwatched bool
		take      func(*testing.T, *Line) *Place
		ask       func(place string) []string
	}{
		"watched":            {false, join, func(p string) []string { return []string{"list line", "watch " + p} }},
		"watched, adopted":   {false, adopted, func(p string) []string { return []string{"list line", "watch " + p} }},
		"unwatched":          {true, join, func(p string) []string { return []string{"list line", "get " + p} }},
		"unwatched, adopted": {true, adopted, func(string) []string { return []string{"list line"} }},
	} {
		t.Run(name, func(t *testing.T) {
			line, c := newLine(t, test.unwatched)
			place := test.take(t, line)
			after, err := place.Next(t.Context())
			if err != nil || after != 0 {
				t.Fatalf("after %d, %v", after, err)
			}
			c.want(t, test.ask(place.Name())...)
			node, err := c.Session.Get(t.Context(), place.Path())
			if err != nil || place.Token() != uint64(node.Stat.Czxid) {
				t.Errorf("token %d, created at %+v, %v", place.Token(), node.Stat, err)
			}
			if again, err := place.Next(t.Context()); err != nil || again != 0 {
				t.Errorf("again: %d, %v", again, err)
			}
			if test.unwatched {
				c.want(t, "list line") // its token is known by now
			}
		})
	}
}

func TestAnAdoptedPlaceHasItsTokenAtOnce(t *testing.T) {
	line, _ := newLine(t, true)
	place, err := line.Adopt(NewID()+"-0000000007", 0xabc)
	if err != nil || place.Token() != 0xabc || place.Sequence() != 7 {
		t.Errorf("%+v, %v", place, err)
	}
}

// The place that goes tells what its token was: the caller looks what it did.
func TestAnUnwatchedPlaceIsToldOfTheOneAhead(t *testing.T) {
	line, c := newLine(t, true)
	other := &Line{Sess: dial(t), Dir: line.Dir, Log: zap.NewNop()}
	ahead := join(t, other)
	node, err := c.Session.Get(t.Context(), ahead.Path())
	if err != nil {
		t.Fatal(err)
	}
	place := adopted(t, line)
	type answer struct {
		after uint64
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		after, err := place.Next(t.Context())
		done <- answer{after, err}
	}()
	c.want(t, "list line", "watch "+ahead.Name())
	ahead.Leave()
	if got := <-done; got.err != nil || got.after != uint64(node.Stat.Czxid) {
		t.Errorf("after %d, %v; it was %d", got.after, got.err, node.Stat.Czxid)
	}
	c.want(t)
}

// A list shows that the place is gone, though nothing watches it.
func TestAnUnwatchedPlaceThatIsGoneIsLost(t *testing.T) {
	for name, take := range map[string]func(*testing.T, *Line) *Place{"joined": join, "adopted": adopted} {
		t.Run(name, func(t *testing.T) {
			line, _ := newLine(t, true)
			place := take(t, line)
			if err := Evict(t.Context(), line.Sess, line.Dir, place.Name()); err != nil {
				t.Fatal(err)
			}
			if _, err := place.Next(t.Context()); !errors.Is(err, ErrLost) {
				t.Errorf("next: %v", err)
			}
		})
	}
}

// A place that somebody else's session owns is not ours, whatever it is called.
func TestAPlaceOfAnotherSessionIsLost(t *testing.T) {
	line, _ := newLine(t, true)
	name := NewID() + "-0000000003"
	if _, err := dial(t).Create(t.Context(), path.Join(line.Dir, name), nil, zk.FlagEphemeral); err != nil {
		t.Fatal(err)
	}
	place, err := line.Adopt(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := place.Next(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("next: %v", err)
	}
}

func TestCard(t *testing.T) {
	for _, unwatched := range []bool{false, true} {
		line := &Line{Who: Member{Agent: "a", Host: "h", BootID: "b", Life: "l.1.2"}, Unwatched: unwatched}
		before := time.Now()
		first := line.Card()
		var m Member
		if err := json.Unmarshal(first, &m); err != nil {
			t.Fatal(err)
		}
		if m.Since.Before(before.Add(-time.Second)) || m.Agent != "a" || m.Host != "h" || m.BootID != "b" || m.Life != "l.1.2" {
			t.Errorf("%+v", m)
		}
		if second := line.Card(); (&second[0] == &first[0]) != unwatched {
			t.Errorf("unwatched %v: %s, then %s", unwatched, first, second)
		}
	}
}

// A card that was read before is not parsed again, and never passes for another's.
func TestReadCard(t *testing.T) {
	line := &Line{Unwatched: true}
	for _, test := range []struct {
		card, agent string
		ok          bool
	}{
		{`{"agent":"a"}`, "a", true}, {`{"agent":"a"}`, "a", true}, {`{"agent":"b"}`, "b", true},
		{`{"agent":["b"]}`, "", false}, {`{"agent":"b"`, "", false}, {`{"agent":"b"}`, "b", true}, {`{}`, "", true},
	} {
		if m, ok := line.readCard([]byte(test.card)); ok != test.ok || m.Agent != test.agent {
			t.Errorf("%s: %+v, %v", test.card, m, ok)
		}
	}
}

func TestALifeThatCannotBeHeldHasNoName(t *testing.T) {
	lines := &ledger{t: t, unknown: true}
	l := BeginLife(lines, "me", zap.NewNop())
	if l.Name() != "" {
		t.Errorf("name %q", l.Name())
	}
	l.End()
	lines.unknown = false
	if l = BeginLife(lines, "me", zap.NewNop()); l.Name() != "me.life" {
		t.Errorf("name %q, not the life that was given", l.Name())
	}
	l.End()
	lines.want(0, "")
}
