package live_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/recipe/live"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

const long = 20 * time.Second

// crowd is many followers behind a few proxies.
type crowd struct {
	*recipetest.Stage
	proxies   []*zktest.Proxy
	followers []*follower
}

func newCrowd(t *testing.T, many int) *crowd {
	c := &crowd{Stage: recipetest.NewStage(t)}
	for range 4 {
		c.proxies = append(c.proxies, zktest.NewProxy(t, c.Server.Addr))
	}
	for i := range many {
		c.followers = append(c.followers, follow(t, c.proxies[i%len(c.proxies)].Addr, c.Dir, long))
	}
	for _, f := range c.followers {
		f.wait("there is nothing yet", nothing)
	}
	return c
}

// sees waits until all have the value, and logs when the last had it.
func (c *crowd) sees(what, text string, since time.Time) {
	c.T.Helper()
	var took []time.Duration
	for _, f := range c.followers {
		took = append(took, f.wait(what, is("text", text)).Sub(since))
	}
	slices.Sort(took)
	c.T.Logf("%s: %d watchers have the last value: median %v, last %v after the set", what, len(took),
		took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
}

func (c *crowd) leave() {
	for _, f := range c.followers {
		f.stop()
	}
	c.NothingLeft()
}

func TestAHundredWatchersHaveTheLastValue(t *testing.T) {
	c := newCrowd(t, 100)
	for i := range 20 {
		mustStore(t, set(c.Dir, "text", fmt.Sprint("quick ", i)), c.Sess)
	}
	c.sees("after 20 changes at once", "quick 19", time.Now())

	mustStore(t, set(c.Dir, "text", "one"), c.Sess)
	c.sees("after one change", "one", time.Now())

	for i := range 20 { // events and answers are lost at random
		for _, p := range c.proxies {
			p.Cut()
		}
		mustStore(t, set(c.Dir, "text", fmt.Sprint("cut ", i)), c.Sess)
	}
	c.sees("with all connections cut before each of 20 changes", "cut 19", time.Now())

	for _, p := range c.proxies {
		p.Refuse(true)
	}
	mustStore(t, set(c.Dir, "text", "unseen"), c.Sess)
	for _, p := range c.proxies {
		p.Refuse(false)
	}
	mustStore(t, set(c.Dir, "text", "back"), c.Sess)
	c.sees("after all connections were refused", "back", time.Now())
	c.leave()
}

func TestAHundredWatchersHaveTheLastValueAfterARestart(t *testing.T) {
	c := newCrowd(t, 100)
	for i := range 3 {
		text := fmt.Sprint("before ", i)
		mustStore(t, set(c.Dir, "text", text), c.Sess)
		c.Server.Kill()
		c.Server.Restart(t)
		// By somebody who comes anew, and so is served at once.
		sess := recipetest.Dial(t, c.Server.Addr, long)
		mustStore(t, set(c.Dir, "text", fmt.Sprint("after ", i)), sess)
		c.sees(fmt.Sprintf("after restart %d", i+1), fmt.Sprint("after ", i), time.Now())
		sess.Close()
	}
	c.leave()
}

func TestANodeThatComesAndGoes(t *testing.T) {
	s := recipetest.NewStage(t)
	f := follow(t, s.Server.Addr, s.Dir, long)
	f.wait("it is not there", nothing)
	mustStore(t, set(s.Dir, "n", "1"), s.Sess)
	f.wait("it is there", is("n", "1"))
	s.Delete(s.Dir)
	f.wait("it was deleted", nothing)
	mustStore(t, set(s.Dir, "n", "2"), s.Sess)
	f.wait("it is there again", is("n", "2"))
	for i := range 20 {
		s.Delete(s.Dir)
		mustStore(t, set(s.Dir, "n", fmt.Sprint(i)), s.Sess)
	}
	f.wait("it came and went", is("n", "19"))
	f.stop()
	s.NothingLeft()
}

func TestDamageIsToldAndTheSettingsStay(t *testing.T) {
	s := recipetest.NewStage(t)
	f := follow(t, s.Server.Addr, s.Dir, long)
	mustStore(t, set(s.Dir, "n", "1", "text", "a"), s.Sess)
	f.wait("it is there", is("n", "1"))
	for _, data := range []string{"{", "[]", "null", "nonsense", `{"n":"x"}`, `{"n":1}{}`, `{"m":1}`, `{"n":{}}`, `{"n":[1]}`, `{"n":null}`, "\x00\xff"} {
		if _, err := s.Sess.Set(recipetest.Background(t), s.Dir, []byte(data), -1); err != nil {
			t.Fatal(err)
		}
		f.wait("damaged by "+data, func(v live.Value) bool { return v.Damaged != nil && string(v.Raw()) == data })
		if _, err := set(s.Dir, "n", "2").Store(recipetest.Background(t), s.Sess); err == nil {
			t.Errorf("a change was built upon %q", data)
		}
	}
	mend := &live.Change{Node: s.Dir, Schema: schema, Edit: func(live.Value) (live.Settings, error) {
		return live.Settings{"n": "3"}, nil
	}}
	mustStore(t, mend, s.Sess)
	f.wait("mended", is("n", "3"))
	if _, err := s.Sess.Set(recipetest.Background(t), s.Dir, nil, -1); err != nil {
		t.Fatal(err)
	}
	f.wait("emptied, which is to have none", nothing)
}

func TestAWatcherOutlivesItsSessions(t *testing.T) {
	s := recipetest.NewStage(t)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	f := follow(t, proxy.Addr, s.Dir, 2*time.Second)
	mustStore(t, set(s.Dir, "n", "1"), s.Sess)
	f.wait("it is there", is("n", "1"))
	first, _ := f.session()
	proxy.HalfOpen(true)
	mustStore(t, set(s.Dir, "n", "2"), s.Sess)
	select {
	case <-first.Done():
	case <-time.After(recipetest.Patience):
		t.Fatal("the session does not expire")
	}
	mustStore(t, set(s.Dir, "n", "3"), s.Sess)
	proxy.HalfOpen(false)
	proxy.Cut()
	f.wait("in another session", is("n", "3"))
	mustStore(t, set(s.Dir, "n", "4"), s.Sess)
	f.wait("and later", is("n", "4"))
	if _, dialled := f.session(); dialled < 2 {
		t.Error("the session did not end")
	}
	f.stop()
	s.NothingLeft()
}

func TestAWatcherOutlivesTheServer(t *testing.T) {
	s := recipetest.NewStage(t)
	f := follow(t, s.Server.Addr, s.Dir, long)
	mustStore(t, set(s.Dir, "n", "1"), s.Sess)
	f.wait("it is there", is("n", "1"))
	s.Server.Kill()
	s.Server.Restart(t)
	mustStore(t, set(s.Dir, "n", "2"), s.Sess)
	f.wait("after the restart", is("n", "2"))
	f.stop()
	s.NothingLeft()
}

func TestAWatchEndsWithItsContext(t *testing.T) {
	s := recipetest.NewStage(t)
	sess := recipetest.Dial(t, s.Server.Addr, long)
	ctx, cancel := context.WithCancelCause(t.Context())
	err := live.Watch(ctx, sess, s.Dir, nil, func(live.Snapshot) { cancel(errEnough) })
	if !errors.Is(err, errEnough) {
		t.Errorf("it ended with %v", err)
	}
	if sess.Err() != nil {
		t.Error("the session ended, which is not the watch's")
	}
	sess.Close()
	s.NothingLeft()
}

// A lost event is made up for only when nothing newer was answered before.
func TestANewConnectionIsLookedAt(t *testing.T) {
	server := &fake{node: live.Snapshot{Data: []byte(`{"n":1}`)}}
	connected, ctx := make(chan struct{}), recipetest.Background(t)
	told := make(chan live.Value)
	go live.Watch(ctx, server, "/it", connected, func(s live.Snapshot) { told <- schema.Value(s) }) //nolint:errcheck // ends with the test
	<-told
	server.node.Data, server.node.Version = []byte(`{"n":2}`), 1
	select {
	case connected <- struct{}{}:
	case <-ctx.Done():
		t.Fatal("a new connection goes unnoticed")
	}
	if v := <-told; v.Settings["n"] != "2" {
		t.Errorf("told %v", v.Settings)
	}
}

func TestAServerThatLagsBehindTakesNobodyBack(t *testing.T) {
	server := &fake{
		node:    live.Snapshot{Data: []byte(`{"n":2}`), Version: 2, Mzxid: 20},
		lagging: &live.Snapshot{Data: []byte(`{"n":1}`), Version: 1, Mzxid: 10},
	}
	ctx, cancel := context.WithCancel(t.Context())
	live.Watch(ctx, server, "/it", nil, func(s live.Snapshot) { //nolint:errcheck // ends with ctx
		if n := schema.Value(s).Settings["n"]; n != "2" {
			t.Errorf("a session that begins is told %s", n)
		}
		cancel()
	})
	server.lagging = &live.Snapshot{Data: []byte(`{"n":1}`), Version: 1, Mzxid: 10}
	if v := value(t, server, "/it"); v.Settings["n"] != "2" {
		t.Errorf("a read gives %v", v.Settings)
	}
}
