package inbox_test

import (
	"context"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnstile-fleet/turnstile/internal/lifeline"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/inbox"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func beFirst(ctx context.Context, sess *session.Session, dir string) (recipetest.Held, error) {
	t, err := inbox.NewTaker(ctx, sess, inbox.Dir(dir), queue.Member{Agent: "taker"}, nil, zap.NewNop())
	if err != nil {
		return nil, err
	}
	return t, nil
}

func TestOnlyOneIsTheFirstAtTheInbox(t *testing.T) { recipetest.Faults(t, beFirst) }

func TestWhoLeavesTheInboxWakesOne(t *testing.T) { recipetest.Herd(t, beFirst, 100) }

func TestMessagesComeByPriorityAndThenAsTheyWereSent(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	b.send(5, "c", "d")
	b.send(9, "e")
	b.send(0, "a")
	b.send(1, "b")
	s := b.source(b.Server.Addr, "one")
	if got := b.take(s); got != "a b c d e" {
		t.Errorf("took %q", got)
	}
	b.want("a", "b", "c", "d", "e") // until the commit
	b.send(0, "first")
	if got := text(s.Take(1)); got != "a b c d e" {
		t.Errorf("another time it gave %q", got)
	}
	if err := b.commit(s); err != nil {
		t.Fatal(err)
	}
	b.want("first")
}

// A batch has at most so many records, and so many bytes; what was loaded beyond is for
// the next turn.
func TestABatchHasItsBounds(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	b.send(5, numbered("r", 150)...)
	for bound, opt := range map[string]func(*inbox.SourceOptions){
		"records": func(o *inbox.SourceOptions) { o.MaxRecords = most(2) },
		"bytes":   func(o *inbox.SourceOptions) { o.MaxBytes = 9 },
	} {
		s := b.source(b.Server.Addr, bound, opt)
		if got := b.take(s); got != "r-1 r-2" {
			t.Errorf("%s: took %q", bound, got)
		}
		if want := bound == "bytes"; s.More() != want { // 64 were read at a time
			t.Errorf("%s: more is %v", bound, s.More())
		}
		s.Close()
	}
	s := b.source(b.Server.Addr, "all", func(o *inbox.SourceOptions) { o.MaxBytes = 100 })
	var all []string
	for len(all) < 150 {
		all = append(all, strings.Fields(b.take(s))...)
		if err := b.commit(s); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Join(all, " ") != strings.Join(numbered("r", 150), " ") {
		t.Errorf("took %v", all)
	}
	b.want()
}

// What is no message of ours is neither written nor removed, and blocks nobody.
func TestForeignNodesAreLeftAlone(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	b.send(5, "one")
	parent := b.send(5, "parent")[0]
	foreign := []string{"foreign", "5-1", "x-0000000001", "5-00000000001", "5--000000001", "5-2147483647", path.Join(parent, "child")}
	for _, name := range foreign {
		if _, err := b.Sess.Create(t.Context(), path.Join(b.dir.Messages(), name), []byte("no"), 0); err != nil {
			t.Fatal(err)
		}
	}
	b.send(5, "two")
	core, said := observer.New(zap.WarnLevel)
	s := b.source(b.Server.Addr, "me", func(o *inbox.SourceOptions) { o.Log = zap.New(core) })
	for _, want := range []string{"one two", "three"} {
		if got := b.take(s); got != want {
			t.Errorf("took %q", got)
		}
		if err := b.commit(s); err != nil {
			t.Fatal(err)
		}
		b.send(5, "three")
	}
	for _, name := range foreign {
		if _, err := b.Sess.Get(t.Context(), path.Join(b.dir.Messages(), name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := said.FilterMessageSnippet("left alone").Len(); n != len(foreign) {
		t.Errorf("it says so %d times, want once for each of %d", n, len(foreign))
	}
	look, err := inbox.Look(t.Context(), b.Sess, b.dir, 5)
	if err != nil || len(look.Foreign) != len(foreign)-1 {
		t.Errorf("%v, %v", look.Foreign, err)
	}
}

// Somebody deletes or changes a message that was taken: the others are committed without
// it. One that was changed is taken later, as it is then.
func TestAMessageThatGoesBeforeTheCommitIsLeftOut(t *testing.T) {
	t.Parallel()
	for name, meddle := range map[string]func(b *box, node string) error{
		"deleted": func(b *box, node string) error { return b.Sess.Delete(t.Context(), node) },
		"changed": func(b *box, node string) error {
			_, err := b.Sess.Set(t.Context(), node, []byte("new"), -1)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t)
			names := b.send(5, "a", "b", "c")
			s := b.source(b.Server.Addr, "me")
			b.take(s)
			if err := meddle(b, path.Join(b.dir.Messages(), names[1])); err != nil {
				t.Fatal(err)
			}
			if err := b.commit(s); !session.Definite(err) {
				t.Fatalf("the commit: %v", err)
			}
			want := []string{"a c"}
			if name == "changed" {
				want = append(want, "new")
			}
			for _, records := range want {
				if got := b.take(s); got != records {
					t.Errorf("then took %q", got)
				}
				if err := b.commit(s); err != nil {
					t.Fatal(err)
				}
			}
			b.want()
		})
	}
}

// One message wakes one agent; when the first has worked and nothing is left, it is the
// next one's turn.
func TestWorkGoesRound(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	woken := make(chan *inbox.Source, 3)
	ctx, cancel := context.WithCancel(recipetest.Background(t))
	var waiting sync.WaitGroup
	wait := func(s *inbox.Source) {
		waiting.Go(func() {
			if err := s.Wait(ctx); err == nil {
				woken <- s
			}
		})
	}
	sources := map[*inbox.Source]int{}
	for _, run := range []string{"a", "b", "c"} {
		s := b.source(b.Server.Addr, run)
		sources[s] = 0
		wait(s)
	}
	recipetest.Eventually(t, "all wait", func() bool { return len(b.Ephemeral()) == 3 })
	place := func(s *inbox.Source) string {
		for _, e := range b.look().Takers {
			if e.Agent == s.Run {
				return e.Place
			}
		}
		return ""
	}
	for range 9 {
		b.send(5, "x")
		s := <-woken
		had := place(s)
		s.Take(1)
		if err := b.commit(s); err != nil {
			t.Fatal(err)
		}
		sources[s]++
		wait(s)
		recipetest.Eventually(t, "it goes to the end of the line", func() bool { now := place(s); return now != "" && now != had })
	}
	cancel()
	waiting.Wait()
	for s, n := range sources {
		if n != 3 {
			t.Errorf("%s had %d of 9 messages", s.Run, n)
		}
	}
}

func (b *box) look() inbox.Status {
	b.t.Helper()
	look, err := inbox.Look(recipetest.Background(b.t), b.Sess, b.dir, 5)
	if err != nil {
		b.t.Fatal(err)
	}
	return look
}

// The place of a taker that has died is removed by the next at once, long before its
// session expires.
func TestADeadTakerHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	lives := lifeline.Dir(t.TempDir() + "/alive")
	proxy := zktest.NewProxy(t, b.Server.Addr)
	mortal, heir := recipetest.NewMortals(lives), recipetest.NewMortals(lives)
	dead := b.source(proxy.Addr, "dead", func(o *inbox.SourceOptions) { o.Lives = mortal })
	b.send(5, "a")
	b.take(dead)
	next := b.source(b.Server.Addr, "next", func(o *inbox.SourceOptions) { o.Lives = heir })
	got := make(chan string)
	go func() { got <- b.take(next) }()
	<-heir.Watched
	proxy.HalfOpen(true) // its session lives on at the server
	start := time.Now()
	mortal.Die()
	if records := <-got; records != "a" || time.Since(start) > calm/2 {
		t.Errorf("took %q after %v", records, time.Since(start))
	}
	if err := b.commit(next); err != nil {
		t.Fatal(err)
	}
	if err := b.commit(dead); !session.Definite(err) {
		t.Errorf("the dead one's commit: %v", err)
	}
}

// loseAt has the answer to the nth request of a kind lost.
func loseAt(proxy *zktest.Proxy, n int, op int32) {
	seen := 0
	proxy.OnRequest(func(p []byte) bool { // one connection
		if zktest.Op(p) == op {
			if seen++; seen == n {
				proxy.LoseAnswer()
			}
		}
		return true
	})
}
