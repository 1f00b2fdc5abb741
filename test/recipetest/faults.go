package recipetest

import (
	"context"
	"errors"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// Faults breaks everything that a holder and a waiter stand on, one thing at a time.
func Faults(t *testing.T, take Take) {
	const brief = 2 * time.Second
	run := func(name string, fault func(s *Stage, t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := NewStage(t)
			fault(s, t)
			s.NothingLeft()
		})
	}
	run("session expired while waiting", func(s *Stage, t *testing.T) {
		proxy := zktest.NewProxy(t, s.Server.Addr)
		holder := s.takes(take)
		w := s.waits(Background(t), take, Dial(t, proxy.Addr, brief))
		proxy.HalfOpen(true)
		if _, err := w.end(t); !errors.Is(err, session.ErrExpired) {
			t.Errorf("the waiter ended with %v", err)
		}
		holder.Close()
		s.takes(take).Close()
	})
	run("session expired while holding", func(s *Stage, t *testing.T) {
		proxy := zktest.NewProxy(t, s.Server.Addr)
		sess := Dial(t, proxy.Addr, brief)
		holder := s.start(Background(t), take, sess).must(t)
		w := s.waits(Background(t), take, s.Dial())
		proxy.HalfOpen(true)
		next := w.must(t)
		if sess.Err() == nil { // which looks at the clock
			t.Error("the next has it, and by the holder's clock it still had")
		}
		ended(t, holder, session.ErrExpired)
		next.Close()
		holder.Close()
	})
	run("answers lost", func(s *Stage, t *testing.T) {
		proxy := zktest.NewProxy(t, s.Server.Addr)
		for lost := range 12 { // of each request in turn
			sess := Dial(t, proxy.Addr, 20*time.Second)
			seen := atomic.Int32{}
			proxy.OnRequest(func(p []byte) bool {
				if op := zktest.Op(p); op > 0 && op != 11 && op != 101 && int(seen.Add(1)) == lost+1 {
					proxy.LoseAnswer()
				}
				return true
			})
			s.start(Background(t), take, sess).must(t).Close()
			proxy.OnRequest(nil)
			if left := s.Ephemeral(); len(left) > 0 {
				t.Errorf("the answer to request %d was lost, and left: %v", lost+1, left)
			}
			sess.Close()
		}
	})
	run("server restarted", func(s *Stage, t *testing.T) {
		sess := s.Dial()
		holder := s.start(Background(t), take, sess).must(t)
		w := s.waits(Background(t), take, s.Dial())
		s.Server.Kill()
		s.Server.Restart(t)
		if _, err := sess.Get(Background(t), "/"); err != nil { // Close has no time to wait for it
			t.Fatal(err)
		}
		if err := context.Cause(holder.Context()); err != nil {
			t.Errorf("the holder lost it: %v", err)
		}
		holder.Close()
		w.must(t).Close()
	})
	run("node of a waiter deleted", func(s *Stage, t *testing.T) {
		holder := s.takes(take)
		sess := s.Dial()
		w := s.waits(Background(t), take, sess)
		s.Delete(s.Owned(sess)[0])
		if _, err := w.end(t); !errors.Is(err, queue.ErrLost) {
			t.Errorf("the waiter ended with %v, want ErrLost", err)
		}
		holder.Close()
	})
	run("node of the holder deleted", func(s *Stage, t *testing.T) {
		sess := s.Dial()
		holder := s.start(Background(t), take, sess).must(t)
		w := s.waits(Background(t), take, s.Dial())
		for _, node := range s.Owned(sess) {
			s.Delete(node)
		}
		ended(t, holder, queue.ErrLost)
		w.must(t).Close()
		holder.Close()
	})
	run("context cancelled", func(s *Stage, t *testing.T) {
		holder := s.takes(take)
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(Background(t))
		sess := s.Dial()
		w := s.waits(ctx, take, sess)
		cancel(why)
		if _, err := w.end(t); !errors.Is(err, why) {
			t.Errorf("the waiter ended with %v, want the context's cause", err)
		}
		if left := s.Owned(sess); len(left) > 0 {
			t.Errorf("it left %v", left)
		}
		holder.Close()
	})
	run("foreign children", func(s *Stage, t *testing.T) {
		s.takes(take).Close()
		planted := 0
		for _, dir := range s.All() {
			if !strings.HasPrefix(dir, path.Dir(s.Dir)+"/") {
				continue
			}
			for _, name := range []string{"foreign", "_c_", "lock-0000000000", strings.Repeat("0", 32) + "-1", "0", "-1", "99999999999999999999"} {
				if _, err := s.Sess.Create(Background(t), path.Join(dir, name), []byte("{"), 0); err == nil {
					planted++
				}
			}
		}
		if planted == 0 {
			t.Fatal("there is no node to plant strangers in")
		}
		holder := s.takes(take)
		w := s.waits(Background(t), take, s.Dial())
		holder.Close()
		w.must(t).Close()
	})
}
