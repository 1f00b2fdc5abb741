package barrier_test

import (
	"bytes"
	"context"
	"errors"
	"path"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/barrier"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// The answer to each request of one member, from its first to its last, is lost in turn.
func TestLostAnswers(t *testing.T) {
	s := newStage(t, 2)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	most := 0
	for lost := 0; lost <= most; lost++ {
		a := recipetest.Dial(t, proxy.Addr, 20*time.Second)
		seen := atomic.Int32{}
		proxy.OnRequest(func(p []byte) bool {
			if op := zktest.Op(p); op > 0 && op != zktest.OpPing && op != zktest.OpSetWatches && int(seen.Add(1)) == lost+1 {
				proxy.LoseAnswer()
			}
			return true
		})
		b := s.Dial()
		all := []*member{s.start(s.barrier("a", a)), s.start(s.barrier("b", b))}
		for _, m := range all {
			m.entered()
		}
		leave(nil, all...)
		proxy.OnRequest(nil)
		if left := s.Ephemeral(); len(left) > 0 {
			t.Errorf("the answer to request %d was lost, and left: %v", lost+1, left)
		}
		most = max(most, int(seen.Load()))
		a.Close()
		b.Close()
	}
	if most < 10 {
		t.Errorf("only %d requests were seen", most)
	}
	s.clean()
}

// The same, with a context that ends at that moment.
func TestLostAnswersAndNoTime(t *testing.T) {
	s := newStage(t, 2)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	if err := queue.EnsurePath(recipetest.Background(t), s.Sess, s.Dir); err != nil {
		t.Fatal(err)
	}
	why := errors.New("enough")
	for lost := range 8 {
		sess := recipetest.Dial(t, proxy.Addr, brief)
		ctx, stop := context.WithCancelCause(recipetest.Background(t))
		seen := atomic.Int32{}
		proxy.OnRequest(func(p []byte) bool {
			if op := zktest.Op(p); op > 0 && op != zktest.OpPing && op != zktest.OpSetWatches && int(seen.Add(1)) == lost+1 {
				proxy.LoseAnswer()
				stop(why)
			}
			return true
		})
		alone := make(chan struct{})
		b := s.barrier("a", sess)
		b.Progress = func(int) { close(alone) }
		go func() {
			select {
			case <-alone:
				stop(why)
			case <-ctx.Done():
			}
		}()
		if _, err := b.Enter(ctx); !errors.Is(err, why) {
			t.Errorf("request %d: %v", lost+1, err)
		}
		proxy.OnRequest(nil)
		if _, err := sess.Get(recipetest.Background(t), "/"); err != nil && sess.Err() == nil { // all it sent has arrived
			t.Error(err)
		}
		recipetest.Eventually(t, "no node is left", func() bool { return len(s.Ephemeral()) == 0 })
		sess.Close()
	}
	all := s.together(2)
	for _, m := range all {
		m.entered()
	}
	leave(nil, all...)
	s.clean()
}

// When all are gone at once, the next round is not confused by what they left.
func TestWhatACrashOfAllLeavesIsSweptUp(t *testing.T) {
	for name, inside := range map[string]bool{"waiting": false, "inside": true} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 3)
			proxy := zktest.NewProxy(t, s.Server.Addr)
			var all []*member
			for _, name := range []string{"a", "b", "c"} {
				if name != "c" || inside {
					all = append(all, s.start(s.barrier(name, recipetest.Dial(t, proxy.Addr, brief))))
				}
			}
			recipetest.Eventually(t, "all are there", func() bool { return len(s.Ephemeral()) == len(all) })
			if inside {
				for _, m := range all {
					m.entered()
				}
				go all[0].in.Leave(recipetest.Background(t)) //nolint:errcheck // it dies
				s.marked(1)
			}
			proxy.HalfOpen(true)
			for _, m := range all {
				<-m.sess.Done()
			}
			recipetest.Eventually(t, "they are dead", func() bool { return len(s.Ephemeral()) == 0 })
			s.round() // is left
			next := s.several("d", "e", "f")
			for _, m := range next {
				m.entered()
			}
			leave(nil, next...)
			s.clean()
		})
	}
}

// A member dies at the moment at which the last one arrives, just before its nth request:
// whatever comes first, the others are not left hanging.
func TestADeathAtTheMomentOfReady(t *testing.T) {
	s := newStage(t, 3)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	outcomes := map[string]int{}
	for n := range 22 {
		all := s.together(2)
		b := s.barrier("c", recipetest.Dial(t, proxy.Addr, 20*time.Second))
		alone := make(chan struct{}, 10)
		b.Progress = func(there int) {
			if there == 1 {
				alone <- struct{}{} // it came after the round was broken
			}
		}
		node := s.Owned(all[n%2].sess)[0]
		dies := func() { // for the others, its node's going is its death
			if err := queue.Remove(recipetest.Background(t), s.Sess, node); err != nil {
				t.Error(err)
			}
		}
		seen, tooSoon := atomic.Int32{}, atomic.Bool{}
		proxy.OnRequest(func(p []byte) bool {
			if op := zktest.Op(p); op > 0 && op != zktest.OpPing && int(seen.Add(1)) == n/2+1 {
				dies()
				round, err := s.Sess.Get(recipetest.Background(t), path.Dir(node))
				tooSoon.Store(err == nil && bytes.Contains(round.Data, []byte(`"state":"open"`)))
			}
			return true
		})
		last := s.start(b)
		for _, m := range []*member{all[1-n%2], last} {
			select {
			case <-m.done:
			case <-alone:
				last.stop(errors.New("alone"))
				<-m.done
			case <-time.After(recipetest.Patience):
				t.Fatalf("%s is left hanging", m.name)
			}
			switch {
			case m.err == nil:
				dies() // at the latest
				m.broken(barrier.ErrBroken)
				m.in.Close()
				outcomes["inside"]++
				if tooSoon.Load() {
					t.Errorf("%s is inside, and not all were there", m.name)
				}
			case m == last && m.err != nil && !errors.Is(m.err, barrier.ErrBroken):
				outcomes["next round"]++
			default:
				m.refused(barrier.ErrBroken)
				outcomes["outside"]++
			}
		}
		proxy.OnRequest(nil)
		<-all[n%2].done
		if in := all[n%2].in; in != nil {
			in.Close()
		}
	}
	t.Log(outcomes)
	if len(outcomes) < 3 {
		t.Errorf("not every outcome was seen: %v", outcomes)
	}
	s.clean()
}

// Who completes the count of those who leave dies before it can say so.
func TestTheLastToLeaveDiesOverIt(t *testing.T) {
	s := newStage(t, 3)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	all := append(s.together(2), s.start(s.barrier("c", recipetest.Dial(t, proxy.Addr, brief))))
	for _, m := range all {
		m.entered()
	}
	rest := make(chan struct{})
	go func() {
		defer close(rest)
		leave(nil, all[:2]...)
	}()
	s.marked(2)
	proxy.OnRequest(func(p []byte) bool {
		if zktest.Op(p) == zktest.OpGetChildren {
			proxy.HalfOpen(true)
		}
		return true
	})
	leave(session.ErrExpired, all[2])
	<-rest
	s.play("d", "e", "f") // and sweep up, should c have been the last to go
	s.clean()
}

// Who reads which round is open, and then sleeps through it, does not open it again.
func TestARoundIsNeverOpenedTwice(t *testing.T) {
	s := newStage(t, 2)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	if err := queue.EnsurePath(recipetest.Background(t), s.Sess, s.Dir); err != nil {
		t.Fatal(err)
	}
	slept := atomic.Bool{}
	proxy.OnRequest(func(p []byte) bool {
		if zktest.IsMulti(p) && !slept.Swap(true) {
			s.play("c", "d")
		}
		return true
	})
	all := []*member{s.start(s.barrier("a", recipetest.Dial(t, proxy.Addr, 20*time.Second)))}
	recipetest.Eventually(t, "it woke up", func() bool { return slept.Load() && len(s.Ephemeral()) == 1 })
	all = append(all, s.enters("b"))
	for _, m := range all {
		m.entered()
	}
	leave(nil, all...)
	s.clean()
}
