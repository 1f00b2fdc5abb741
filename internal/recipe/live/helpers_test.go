package live_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/live"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
)

// schema knows n, which is a whole number, and text.
var schema = live.Schema{
	Keys: []live.Key{{Name: "n"}, {Name: "text"}, {Name: "on"}},
	Check: func(s live.Settings) error {
		if text, ok := s["n"]; ok {
			if _, err := strconv.Atoi(text); err != nil {
				return fmt.Errorf("n %q: not a whole number", text)
			}
		}
		return nil
	},
}

func set(node string, pairs ...string) *live.Change {
	given := live.Settings{}
	for i := 0; i < len(pairs); i += 2 {
		given[pairs[i]] = pairs[i+1]
	}
	return &live.Change{Node: node, Schema: schema, Edit: live.Set(given)}
}

// more adds one to n: what happens twice shows.
func more(node string) *live.Change {
	return &live.Change{Node: node, Schema: schema, Edit: func(v live.Value) (live.Settings, error) {
		n, _ := strconv.Atoi(v.Settings["n"])
		return live.Settings{"n": strconv.Itoa(n + 1)}, v.Damaged
	}}
}

func mustStore(t testing.TB, c *live.Change, sess live.Storing) int32 {
	t.Helper()
	version, err := c.Store(recipetest.Background(t), sess)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func value(t testing.TB, sess queue.Session, node string) live.Value {
	t.Helper()
	s, err := live.Read(recipetest.Background(t), sess, node)
	if err != nil {
		t.Fatal(err)
	}
	return schema.Value(s)
}

// follower keeps what it is told.
type follower struct {
	t testing.TB

	mu      sync.Mutex
	last    live.Value
	at      time.Time // when it was told
	news    chan struct{}
	sess    *session.Session // the last that it had
	dialled int
	end     context.CancelCauseFunc
	ended   chan error
}

var errEnough = errors.New("enough")

func follow(t testing.TB, addr, node string, timeout time.Duration) *follower {
	f := &follower{t: t, news: make(chan struct{}, 1), ended: make(chan error, 1)}
	ctx, end := context.WithCancelCause(context.Background())
	f.end = end
	dial := func(ctx context.Context, notify func(session.State)) (live.Session, error) {
		sess, err := session.Dial(ctx, session.Options{
			Servers: []string{addr}, Timeout: timeout, ConnectTimeout: recipetest.Patience, Notify: notify,
		})
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.sess, f.dialled = sess, f.dialled+1
		return sess, nil
	}
	go func() {
		f.ended <- live.Follower{
			Dial: dial, Node: node, Apply: f.apply, Trouble: func(error) error { return nil },
		}.Follow(ctx)
	}()
	t.Cleanup(f.stop)
	return f
}

func (f *follower) apply(s live.Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.at = schema.Value(s), time.Now()
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// session is the last that it had, and how many.
func (f *follower) session() (sess *session.Session, dialled int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sess, f.dialled
}

// stop ends it, once or twice.
func (f *follower) stop() {
	f.end(errEnough)
	err := <-f.ended
	f.ended <- err
	if !errors.Is(err, errEnough) {
		f.t.Errorf("it ended with %v", err)
	}
}

// wait blocks until what it was told last is as wanted, and gives the time of that.
func (f *follower) wait(what string, want func(live.Value) bool) time.Time {
	f.t.Helper()
	patience := time.After(2 * recipetest.Patience)
	for {
		f.mu.Lock()
		last, at := f.last, f.at
		f.mu.Unlock()
		if !at.IsZero() && want(last) {
			return at
		}
		select {
		case <-f.news:
		case <-patience:
			f.t.Fatalf("%s: it was never told; the last it knows is %+v", what, last)
		}
	}
}

func is(name, text string) func(live.Value) bool {
	return func(v live.Value) bool { return v.Settings[name] == text }
}

func nothing(v live.Value) bool { return !v.Exists }

// fake is a session of a server that plays tricks. What is not overridden panics.
type fake struct {
	queue.Session
	node    live.Snapshot
	lagging *live.Snapshot // what is read until a barrier
	late    []byte         // a write whose answer was lost, and which comes true later
	sets    int
	done    chan struct{}
}

func (f *fake) Done() <-chan struct{} { return f.done }
func (f *fake) Err() error            { return nil }

func (f *fake) Multi(context.Context, ...any) ([]zk.MultiResponse, error) {
	f.lagging = nil
	return nil, nil
}

func (f *fake) Get(context.Context, string) (session.Node, error) {
	now := f.node
	if f.lagging != nil {
		now = *f.lagging
	}
	return session.Node{Data: now.Data, Stat: &zk.Stat{Version: now.Version, Mzxid: now.Mzxid}}, nil
}

// Watch sets a watch whose event is lost.
func (f *fake) Watch(ctx context.Context, node string) (session.Node, error) {
	n, err := f.Get(ctx, node)
	n.Watch = make(chan zk.Event)
	return n, err
}

// Set loses the first answer; the write takes effect just before the next one's.
func (f *fake) Set(_ context.Context, _ string, data []byte, version int32) (*zk.Stat, error) {
	if f.sets++; f.sets == 1 {
		f.late = data
		return nil, session.ErrBroken
	}
	if f.late != nil && version == f.node.Version {
		f.node.Data, f.late = f.late, nil
		f.node.Version++
		return nil, zk.ErrBadVersion
	}
	f.node.Data, f.node.Version = data, f.node.Version+1
	return &zk.Stat{Version: f.node.Version}, nil
}
