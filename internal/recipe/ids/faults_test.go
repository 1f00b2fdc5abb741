package ids_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/ids"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// takeOnly is a pool of one.
func takeOnly(ctx context.Context, sess *session.Session, dir string) (recipetest.Held, error) {
	return pool(sess, dir, 1).Take(ctx)
}

func TestFaults(t *testing.T) { recipetest.Faults(t, takeOnly) }

// nth calls do when a client sends its request of that number, pings and farewells left
// out.
func nth(proxy *zktest.Proxy, number int, do func() (pass bool)) {
	seen := atomic.Int32{}
	proxy.OnRequest(func(p []byte) bool {
		op := zktest.Op(p)
		return op <= 0 || op == zktest.OpPing || op == zktest.OpSetWatches || int(seen.Add(1)) != number || do()
	})
}

// Each request of a Take that has to wait meets each of three faults, in turn.
func TestEachRequestOfAWaiterFails(t *testing.T) {
	const requests = 15 // more than Take and Close send
	for _, fault := range []string{"answer lost", "request lost", "context cancelled"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			proxy := zktest.NewProxy(t, s.Server.Addr)
			holding := s.pool(1)
			for number := 1; number <= requests; number++ {
				holder := s.take(holding)
				sess := recipetest.Dial(t, proxy.Addr, 20*time.Second)
				ctx, cancel := context.WithCancel(recipetest.Background(t))
				nth(proxy, number, func() bool {
					switch fault {
					case "answer lost":
						proxy.LoseAnswer()
					case "request lost":
						return false
					default:
						cancel()
					}
					return true
				})
				done := make(chan error, 1)
				go func() {
					id, err := pool(sess, s.Dir, 1).Take(ctx)
					if err == nil {
						id.Close()
					}
					done <- err
				}()
				recipetest.Eventually(t, "it waits, or has given up", func() bool { return len(done) > 0 || s.first(sess.ID()) })
				holder.Close()
				select {
				case err := <-done:
					if ctx.Err() != nil && err != nil {
						wantErr(t, "cancelled", err, context.Canceled)
					} else if err != nil {
						t.Errorf("request %d: %v", number, err)
					}
				case <-time.After(recipetest.Patience):
					t.Fatalf("request %d: it neither has it nor gives up", number)
				}
				if sess.Err() != nil {
					t.Errorf("request %d: the session was discarded", number)
				}
				proxy.OnRequest(nil)
				cancel()
				if left := s.Owned(sess); len(left) > 0 {
					t.Errorf("request %d left %v", number, left)
				}
			}
			s.NothingLeft()
		})
	}
}

// first tells whether the session's place is the first in the line. (It may not watch
// what is taken yet; then it need not, for the number comes free.)
func (s stage) first(session int64) bool {
	entries, err := queue.Look(recipetest.Background(s.T), s.Sess, s.Dir+"/waiting")
	if err != nil {
		s.T.Fatal(err)
	}
	return len(entries) > 0 && entries[0].Session == session
}

// events counts what watches tell clients behind a proxy, by path.
type events struct {
	mu    sync.Mutex
	paths []string
}

func (e *events) add(path string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.paths = append(e.paths, path)
}

func (e *events) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.paths)
}

// A holder's death wakes one of 100 waiters. That one's taking, in one transaction, wakes
// the next, which becomes the first: until it is sent, nobody else hears of anything.
func TestADeathWakesOneOfAHundred(t *testing.T) {
	for _, size := range []int{1, 3} {
		t.Run(fmt.Sprintf("size %d", size), func(t *testing.T) { herd(t, size) })
	}
}

func herd(t *testing.T, size int) {
	const waiters = 100
	s := newStage(t)
	dies := s.Dial()
	first := s.take(pool(dies, s.Dir, size))
	for range size - 1 {
		defer s.take(s.pool(size)).Close()
	}
	proxy := zktest.NewProxy(t, s.Server.Addr)
	ctx, cancel := context.WithCancel(recipetest.Background(t))
	defer cancel()
	got := make(chan *ids.ID, waiters)
	var all sync.WaitGroup
	for range waiters {
		sess := recipetest.Dial(t, proxy.Addr, 20*time.Second)
		all.Go(func() {
			if id, err := pool(sess, s.Dir, size).Take(ctx); err == nil {
				got <- id
			} else if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	watches := 0
	recipetest.Eventually(t, "all wait", func() bool { // two watches each: its own place, and what it waits for
		before := watches
		watches = s.Server.Watches(t)
		return len(s.waiting()) == waiters && watches == before && watches >= 2*waiters
	})
	var told events
	transaction, goOn := make(chan struct{}, waiters), make(chan struct{})
	proxy.OnEvent(told.add)
	proxy.OnRequest(func(p []byte) bool {
		if zktest.IsMulti(p) {
			transaction <- struct{}{}
			<-goOn
		}
		return true
	})
	dies.Close()
	<-transaction
	if events := told.all(); len(events) != 1 || !strings.Contains(events[0], s.Dir+"/taken") {
		t.Errorf("a death told %d: %q; want one, of what is taken", len(events), events)
	}
	close(goOn)
	var next *ids.ID
	select {
	case next = <-got:
	case <-time.After(recipetest.Patience):
		t.Fatal("nobody has it")
	}
	wantNumber(t, next, first.Number())
	recipetest.Eventually(t, "the next is the first", func() bool { return s.Server.Watches(t) >= 2*waiters-2 })
	// It hears of its own taking (place and list), and the second of it, no more.
	recipetest.Eventually(t, "both hear of the taking", func() bool { return len(told.all()) >= 4 })
	if events := told.all(); len(events) != 4 {
		t.Errorf("a death and a taking told %d: %q; want 4", len(events), events)
	}
	t.Logf("%d waiters; told: %q", waiters, told.all())
	proxy.OnRequest(nil)
	proxy.OnEvent(nil)
	cancel()
	all.Wait()
	next.Close()
	for len(got) > 0 {
		(<-got).Close()
	}
}
