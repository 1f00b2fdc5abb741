package recipetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// Herd has as many waiters, ends the holder's session, and counts whom watches wake: the
// events that are not of a waiter's own doing.
func Herd(t *testing.T, take Take, waiters int) {
	s := NewStage(t)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	first := s.Dial()
	s.start(Background(t), take, first).must(t)
	held := make(chan Held, waiters)
	ctx, cancel := context.WithCancel(Background(t))
	var all sync.WaitGroup
	for range waiters {
		sess := Dial(t, proxy.Addr, 20*time.Second)
		all.Go(func() {
			if h, err := take(ctx, sess, s.Dir); err == nil {
				held <- h
			}
		})
	}
	watches := 0
	Eventually(t, "all wait", func() bool { // two watches each, but some may have one
		before := watches
		watches = s.Server.Watches(t)
		return len(s.Ephemeral()) >= waiters+1 && watches >= s.before+waiters && watches == before
	})
	events := make(chan string, 10*waiters)
	proxy.OnEvent(func(path string) { events <- path })
	first.Close()
	var next Held
	select {
	case next = <-held:
	case <-time.After(Patience):
		t.Fatal("nobody has it")
	}
	// Whoever else was woken has heard of it by now: events go out before what follows.
	for range 3 {
		if _, err := s.Sess.Get(Background(t), "/"); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(events); n != 1 {
		t.Errorf("%d of %d waiters were woken, want 1", n, waiters)
	}
	proxy.OnEvent(nil)
	cancel()
	all.Wait()
	next.Close()
	close(held)
	for h := range held {
		h.Close()
	}
	t.Logf("%d waiters, one woken", waiters)
	s.NothingLeft()
}
