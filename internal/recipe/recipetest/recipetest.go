// Package recipetest breaks what a recipe stands on, in each of the ways in which it
// breaks in life, and looks whether anything is left behind. It is for recipes with which
// one holds something and others wait for it.
package recipetest

import (
	"context"
	"errors"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/session"
	"github.com/turnstile-fleet/turnstile/internal/zktest"
)

// Held is what a recipe gives to who has it.
type Held interface {
	Context() context.Context
	Close()
}

// Take waits until it has what only one can have at a time. dir is a node that need not be
// there; its parent is.
type Take func(ctx context.Context, sess *session.Session, dir string) (Held, error)

// Patience is for what should happen soon, on a busy machine too.
const Patience = 30 * time.Second

// Background ends before a test that hangs would be killed.
func Background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*Patience)
	t.Cleanup(cancel)
	return ctx
}

// Dial gives a session that ends with the test.
func Dial(t testing.TB, addr string, timeout time.Duration) *session.Session {
	t.Helper()
	sess, err := session.Dial(Background(t), session.Options{Servers: []string{addr}, Timeout: timeout, ConnectTimeout: Patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sess.Close)
	return sess
}

// Eventually waits for what has no event to wait for.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// Stage is a server of a test's own, and an onlooker's session with it.
type Stage struct {
	T      testing.TB
	Server *zktest.Server
	Sess   *session.Session
	Dir    string
	before int // watches
}

// NewStage starts a server, with the parent of Dir on it.
func NewStage(t testing.TB) *Stage {
	t.Helper()
	s := &Stage{T: t, Server: zktest.Start(t), Dir: "/turnstile/stage/it"}
	s.Sess = Dial(t, s.Server.Addr, 20*time.Second)
	if err := queue.EnsurePath(Background(t), s.Sess, path.Dir(s.Dir)); err != nil {
		t.Fatal(err)
	}
	s.before = s.Server.Watches(t)
	return s
}

// Ephemeral lists the nodes of sessions under Dir.
func (s *Stage) Ephemeral() (nodes []string) {
	s.walk("/", func(node string, stat *zk.Stat) {
		if stat.EphemeralOwner != 0 {
			nodes = append(nodes, node)
		}
	})
	return nodes
}

// Owned lists the nodes of one session.
func (s *Stage) Owned(sess *session.Session) (nodes []string) {
	s.walk("/", func(node string, stat *zk.Stat) {
		if stat.EphemeralOwner == sess.ID() {
			nodes = append(nodes, node)
		}
	})
	return nodes
}

// All lists every node there is.
func (s *Stage) All() (nodes []string) {
	s.walk("/", func(node string, _ *zk.Stat) { nodes = append(nodes, node) })
	return nodes
}

func (s *Stage) walk(node string, see func(string, *zk.Stat)) {
	if node == "/zookeeper" {
		return
	}
	n, err := s.Sess.Get(Background(s.T), node)
	if errors.Is(err, zk.ErrNoNode) {
		return
	}
	if err != nil {
		s.T.Fatal(err)
	}
	see(node, n.Stat)
	names, err := s.Sess.Children(Background(s.T), node)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		s.T.Fatal(err)
	}
	for _, name := range names {
		s.walk(path.Join(node, name), see)
	}
}

// NothingLeft checks that neither nodes of sessions nor watches are there any more.
func (s *Stage) NothingLeft() {
	s.T.Helper()
	Eventually(s.T, "nothing is left behind", func() bool { return len(s.Ephemeral()) == 0 && s.Server.Watches(s.T) == s.before })
}

// Delete removes a node behind everybody's back.
func (s *Stage) Delete(node string) {
	s.T.Helper()
	if err := s.Sess.Delete(Background(s.T), node); err != nil {
		s.T.Fatal(err)
	}
}

// taking is a Take under way.
type taking struct {
	held Held
	err  error
	done chan struct{}
}

func (s *Stage) start(ctx context.Context, take Take, sess *session.Session) *taking {
	w := &taking{done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.held, w.err = take(ctx, sess, s.Dir)
	}()
	return w
}

// end waits for it.
func (w *taking) end(t testing.TB) (Held, error) {
	t.Helper()
	select {
	case <-w.done:
	case <-time.After(Patience):
		t.Fatal("it neither has it nor gives up")
	}
	return w.held, w.err
}

func (w *taking) must(t testing.TB) Held {
	t.Helper()
	held, err := w.end(t)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// waits starts a Take that must wait, and gives it back once it has a node and watches.
func (s *Stage) waits(ctx context.Context, take Take, sess *session.Session) *taking {
	s.T.Helper()
	watches := s.Server.Watches(s.T)
	w := s.start(ctx, take, sess)
	Eventually(s.T, "it waits", func() bool {
		return len(s.Owned(sess)) > 0 && s.Server.Watches(s.T) > watches
	})
	select {
	case <-w.done:
		s.T.Fatalf("it does not wait: %v", w.err)
	default:
	}
	return w
}

func ended(t testing.TB, held Held, want error) {
	t.Helper()
	select {
	case <-held.Context().Done():
		if cause := context.Cause(held.Context()); !errors.Is(cause, want) {
			t.Errorf("what was held ended with %v, want %v", cause, want)
		}
	case <-time.After(Patience):
		t.Fatal("who held it was never told")
	}
}

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
		holder := s.start(Background(t), take, Dial(t, s.Server.Addr, 20*time.Second)).must(t)
		w := s.waits(Background(t), take, Dial(t, proxy.Addr, brief))
		proxy.HalfOpen(true)
		if _, err := w.end(t); !errors.Is(err, session.ErrExpired) {
			t.Errorf("the waiter ended with %v", err)
		}
		holder.Close()
		s.start(Background(t), take, Dial(t, s.Server.Addr, 20*time.Second)).must(t).Close()
	})
	run("session expired while holding", func(s *Stage, t *testing.T) {
		proxy := zktest.NewProxy(t, s.Server.Addr)
		sess := Dial(t, proxy.Addr, brief)
		holder := s.start(Background(t), take, sess).must(t)
		w := s.waits(Background(t), take, Dial(t, s.Server.Addr, 20*time.Second))
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
		sess := Dial(t, s.Server.Addr, 20*time.Second)
		holder := s.start(Background(t), take, sess).must(t)
		w := s.waits(Background(t), take, Dial(t, s.Server.Addr, 20*time.Second))
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
		holder := s.start(Background(t), take, Dial(t, s.Server.Addr, 20*time.Second)).must(t)
		sess := Dial(t, s.Server.Addr, 20*time.Second)
		w := s.waits(Background(t), take, sess)
		s.Delete(s.Owned(sess)[0])
		if _, err := w.end(t); !errors.Is(err, queue.ErrLost) {
			t.Errorf("the waiter ended with %v, want ErrLost", err)
		}
		holder.Close()
	})
	run("node of the holder deleted", func(s *Stage, t *testing.T) {
		sess := Dial(t, s.Server.Addr, 20*time.Second)
		holder := s.start(Background(t), take, sess).must(t)
		w := s.waits(Background(t), take, Dial(t, s.Server.Addr, 20*time.Second))
		for _, node := range s.Owned(sess) {
			s.Delete(node)
		}
		ended(t, holder, queue.ErrLost)
		w.must(t).Close()
		holder.Close()
	})
	run("context cancelled", func(s *Stage, t *testing.T) {
		holder := s.start(Background(t), take, Dial(t, s.Server.Addr, 20*time.Second)).must(t)
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(Background(t))
		sess := Dial(t, s.Server.Addr, 20*time.Second)
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
		s.start(Background(t), take, Dial(t, s.Server.Addr, 20*time.Second)).must(t).Close()
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
		holder := s.start(Background(t), take, Dial(t, s.Server.Addr, 20*time.Second)).must(t)
		w := s.waits(Background(t), take, Dial(t, s.Server.Addr, 20*time.Second))
		holder.Close()
		w.must(t).Close()
	})
}

// Herd has as many waiters, ends the holder's session, and counts whom watches wake: the
// events that are not of a waiter's own doing.
func Herd(t *testing.T, take Take, waiters int) {
	s := NewStage(t)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	first := Dial(t, s.Server.Addr, 20*time.Second)
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
