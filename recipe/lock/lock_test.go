package lock_test

import (
	"bytes"
	"context"
	"errors"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/ids"
	"github.com/turnstile-fleet/turnstile/recipe/lock"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestMain(m *testing.M) { zktest.Together(m) }

func on(sess *session.Session, dir string) *lock.Lock {
	return &lock.Lock{Sess: sess, Dir: dir, Who: queue.Member{Agent: "test", Host: "here"}, Log: zap.NewNop()}
}

func exclusive(ctx context.Context, sess *session.Session, dir string) (recipetest.Held, error) {
	return orNil(on(sess, dir).Exclusive(ctx))
}

func oneSlot(ctx context.Context, sess *session.Session, dir string) (recipetest.Held, error) {
	return orNil(on(sess, dir).Slot(ctx, 1))
}

func orNil(h *lock.Held, err error) (recipetest.Held, error) {
	if err != nil {
		return nil, err
	}
	return h, nil
}

func TestFaultsExclusive(t *testing.T) { recipetest.Faults(t, exclusive) }

func TestFaultsSlots(t *testing.T) { recipetest.Faults(t, oneSlot) }

func TestOneOf100IsWoken(t *testing.T) { recipetest.Herd(t, exclusive, 100) }

// stage is a recipetest.Stage with locks on it.
type stage struct {
	*recipetest.Stage
	t *testing.T
}

func newStage(t *testing.T) stage { return stage{recipetest.NewStage(t), t} }

func (s stage) lock() *lock.Lock {
	s.t.Helper()
	return on(s.Dial(), s.Dir)
}

func (s stage) must(held *lock.Held, err error) *lock.Held {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	return held
}

func (s stage) refused(want error) func(*lock.Held, error) {
	s.t.Helper()
	return func(held *lock.Held, err error) {
		s.t.Helper()
		if !errors.Is(err, want) || held != nil {
			s.t.Errorf("%v, %v; want %v", held, err, want)
		}
	}
}

// A writer goes: the readers behind it all have it, and the writer behind them is not
// woken; nor is it until the last of them goes.
func TestReadersAreWokenTogetherAndNobodyElse(t *testing.T) {
	const readers, writers = 50, 10
	s := newStage(t)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	first := s.must(s.lock().Exclusive(recipetest.Background(t)))
	ctx, cancel := context.WithCancel(recipetest.Background(t))
	held := make(chan *lock.Held, readers)
	var all sync.WaitGroup
	waits := func(take func(*lock.Lock) (*lock.Held, error)) {
		l := on(recipetest.Dial(t, proxy.Addr, 20*time.Second), s.Dir)
		before := len(s.Ephemeral())
		all.Go(func() {
			if h, err := take(l); err == nil {
				held <- h
			}
		})
		recipetest.Eventually(t, "it has a place", func() bool { return len(s.Ephemeral()) > before })
	}
	for range readers {
		waits(func(l *lock.Lock) (*lock.Held, error) { return l.Shared(ctx) })
	}
	for range writers {
		waits(func(l *lock.Lock) (*lock.Held, error) { return l.Exclusive(ctx) })
	}
	watches := 0
	recipetest.Eventually(t, "all wait", func() bool {
		before := watches
		watches = s.Server.Watches(t)
		return watches >= 2*(readers+writers) && watches == before
	})
	events := make(chan string, 10*readers)
	proxy.OnEvent(func(path string) { events <- path })
	first.Close()
	for range readers {
		select {
		case h := <-held:
			defer h.Close()
		case <-time.After(recipetest.Patience):
			t.Fatal("not all readers have it")
		}
	}
	for range 3 { // events go out before what follows
		if _, err := s.Sess.Get(recipetest.Background(t), "/"); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(events); n != readers {
		t.Errorf("%d were woken, want the %d readers", n, readers)
	}
	if len(held) > 0 {
		t.Error("a writer has it beside the readers")
	}
	proxy.OnEvent(nil)
	cancel()
	all.Wait()
}

func TestReadersDoNotOvertakeAWriter(t *testing.T) {
	s := newStage(t)
	reader := s.must(s.lock().TryShared(recipetest.Background(t)))
	beside := s.must(s.lock().TryShared(recipetest.Background(t)))
	s.refused(lock.ErrBusy)(s.lock().TryExclusive(recipetest.Background(t)))

	written := make(chan *lock.Held)
	writer, places := s.lock(), len(s.Ephemeral())
	go func() { h, _ := writer.Exclusive(recipetest.Background(t)); written <- h }()
	recipetest.Eventually(t, "the writer waits", func() bool { return len(s.Ephemeral()) > places })
	s.refused(lock.ErrBusy)(s.lock().TryShared(recipetest.Background(t)))
	reader.Close()
	beside.Close()
	h := <-written
	if h == nil || h.Token() <= beside.Token() {
		t.Errorf("the writer has %v, after the token %d", h, beside.Token())
	}
	h.Close()
	h.Close()
	s.NothingLeft()
}

func TestSlots(t *testing.T) {
	s := newStage(t)
	ctx := recipetest.Background(t)
	one, two := s.must(s.lock().Slot(ctx, 2)), s.must(s.lock().TrySlot(ctx, 2))
	if one.Slot() != 1 || two.Slot() != 2 || one.Token() >= two.Token() {
		t.Errorf("slots %d and %d, tokens %d and %d", one.Slot(), two.Slot(), one.Token(), two.Token())
	}
	s.refused(lock.ErrBusy)(s.lock().TrySlot(ctx, 2))
	s.refused(ids.ErrSize)(s.lock().TrySlot(ctx, 3))
	one.Close()
	again := s.must(s.lock().TrySlot(ctx, 2))
	if again.Slot() != 1 || again.Token() <= two.Token() {
		t.Errorf("slot %d, token %d", again.Slot(), again.Token())
	}
	again.Close()
	two.Close()
	s.NothingLeft()
}

func TestKindsAreNotMixed(t *testing.T) {
	s := newStage(t)
	ctx := recipetest.Background(t)
	writer := s.must(s.lock().Exclusive(ctx))
	s.refused(lock.ErrMixed)(s.lock().Slot(ctx, 2))
	s.refused(lock.ErrMixed)(s.lock().TrySlot(ctx, 2))
	writer.Close()
	slot := s.must(s.lock().Slot(ctx, 2))
	s.refused(lock.ErrMixed)(s.lock().Exclusive(ctx))
	s.refused(lock.ErrMixed)(s.lock().TryShared(ctx))
	slot.Close()
	s.must(s.lock().Shared(ctx)).Close()
	s.NothingLeft()
}

// Another comes with the other kind just before our node is made, when we could have looked
// already: never both have it.
func TestKindsThatMeetAreNotMixed(t *testing.T) {
	for _, c := range []struct {
		name         string
		op           int32
		node         string
		ours, others func(*lock.Lock, context.Context) (*lock.Held, error)
	}{
		{"the line", zktest.OpCreate, "/it/line/", (*lock.Lock).Exclusive, twoSlots},
		{"slots", zktest.OpMulti, "/it/slots/taken/", twoSlots, (*lock.Lock).Shared},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			ctx := recipetest.Background(t)
			proxy := zktest.NewProxy(t, s.Server.Addr)
			us, other := on(recipetest.Dial(t, proxy.Addr, 20*time.Second), s.Dir), s.lock()
			var once sync.Once
			var theirs *lock.Held
			proxy.OnRequest(func(p []byte) bool {
				if zktest.Op(p) == c.op && bytes.Contains(p, []byte(c.node)) {
					once.Do(func() { theirs, _ = c.others(other, ctx) })
				}
				return true
			})
			s.refused(lock.ErrMixed)(c.ours(us, ctx))
			if theirs == nil {
				t.Fatal("the other does not have it")
			}
			theirs.Close()
			s.NothingLeft()
		})
	}
}

func twoSlots(l *lock.Lock, ctx context.Context) (*lock.Held, error) { return l.Slot(ctx, 2) }

func TestUnderWhatIsHeld(t *testing.T) {
	s := newStage(t)
	ctx := recipetest.Background(t)
	outer := s.must(s.lock().Exclusive(ctx))
	inner := s.must(s.lock().Under(ctx, outer.Where(), outer.Token(), lock.Exclusive))
	beside := s.must(s.lock().Under(ctx, outer.Where(), outer.Token(), lock.Shared))
	if inner.Token() != outer.Token() || inner.Where() != outer.Where() {
		t.Errorf("%v under %v", inner, outer)
	}
	s.refused(lock.ErrMixed)(s.lock().Under(ctx, outer.Where(), outer.Token(), lock.Slots))
	beside.Close()
	if outer.Context().Err() != nil || inner.Context().Err() != nil {
		t.Fatal("what works under a hold has given it up")
	}
	s.Delete(path.Join(s.Dir, outer.Where()))
	<-inner.Context().Done()
	if cause := context.Cause(inner.Context()); !errors.Is(cause, queue.ErrLost) {
		t.Errorf("it ended with %v", cause)
	}
	s.refused(queue.ErrLost)(s.lock().Under(ctx, outer.Where(), outer.Token(), lock.Exclusive))
	outer.Close()

	shared := s.must(s.lock().Shared(ctx))
	s.refused(lock.ErrUpgrade)(s.lock().Under(ctx, shared.Where(), shared.Token(), lock.Exclusive))
	s.must(s.lock().Under(ctx, shared.Where(), shared.Token(), lock.Shared)).Close()
	shared.Close()

	slot := s.must(s.lock().Slot(ctx, 2))
	within := s.must(s.lock().Under(ctx, slot.Where(), slot.Token(), lock.Slots))
	if within.Slot() != 1 {
		t.Errorf("slot %d", within.Slot())
	}
	s.refused(lock.ErrMixed)(s.lock().Under(ctx, slot.Where(), slot.Token(), lock.Shared))
	slot.Close()
	<-within.Context().Done()
	// The same slot, but another's.
	other := s.must(s.lock().Slot(ctx, 2))
	s.refused(queue.ErrLost)(s.lock().Under(ctx, slot.Where(), slot.Token(), lock.Slots))
	other.Close()
	for _, at := range []string{"", "line/..", "../it/line/" + path.Base(outer.Where()), "slots/taken/0", "slots/taken/1/x", "line"} {
		if held, err := s.lock().Under(ctx, at, 1, lock.Exclusive); err == nil {
			t.Errorf("%q: %v", at, held)
		}
	}
	s.NothingLeft()
}

func TestLookTellsWhoHasItAndWhoWaits(t *testing.T) {
	s := newStage(t)
	ctx, cancel := context.WithCancel(recipetest.Background(t))
	look := func() lock.State {
		t.Helper()
		state, err := lock.Look(recipetest.Background(t), s.Sess, s.Dir)
		if err != nil {
			t.Fatal(err)
		}
		return state
	}
	if state := look(); len(state.Holders)+len(state.Waiting) > 0 {
		t.Errorf("%+v", state)
	}
	one, two := s.must(s.lock().Shared(ctx)), s.must(s.lock().Shared(ctx))
	waiter := s.lock()
	var all sync.WaitGroup
	all.Go(func() { _, _ = waiter.Exclusive(ctx) })
	recipetest.Eventually(t, "one waits", func() bool { return len(look().Waiting) == 1 })
	if _, err := s.Sess.Create(ctx, path.Join(s.Dir, "line", "stranger"), nil, zk.FlagEphemeral); err != nil {
		t.Fatal(err)
	}
	state := look()
	if len(state.Holders) != 2 || state.Kind != lock.Shared || state.Holders[1].Token != two.Token() ||
		state.Holders[0].Agent != "test" || state.Holders[0].Since.IsZero() || len(state.Foreign) != 1 {
		t.Errorf("%+v", state)
	}
	cancel()
	all.Wait()
	one.Close()
	two.Close()
	slot := s.must(s.lock().Slot(recipetest.Background(t), 3))
	if state := look(); state.Kind != lock.Slots || state.Slots != 3 || len(state.Holders) != 1 || state.Holders[0].Slot != 1 {
		t.Errorf("%+v", state)
	}
	slot.Close()
}

// TestSweep_whoComesMeanwhileHasTheLock: the last to leave removes the nodes while others join.
func TestSweep_whoComesMeanwhileHasTheLock(t *testing.T) {
	s := newStage(t)
	var all sync.WaitGroup
	var inside atomic.Int32
	for range 8 {
		l := s.lock()
		l.Sweep = true
		all.Go(func() {
			for range 40 {
				held, err := l.Exclusive(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two have it")
				}
				if err := held.Context().Err(); err != nil {
					t.Error("it was lost", context.Cause(held.Context()))
				}
				inside.Add(-1)
				held.Close()
			}
		})
	}
	all.Wait()
	if _, err := s.Dial().Get(t.Context(), s.Dir); !errors.Is(err, zk.ErrNoNode) {
		t.Errorf("its nodes are there: %v", err)
	}
}

// TestRemove_takesTheLockFromNobody who comes between the look and the removal.
func TestRemove_takesTheLockFromNobody(t *testing.T) {
	s := newStage(t)
	l, other := s.lock(), s.Dial()
	ctx, stop := context.WithCancel(t.Context())
	var removing sync.WaitGroup
	removing.Go(func() {
		for ctx.Err() == nil {
			if err := lock.Remove(ctx, other, s.Dir); err != nil && !errors.Is(err, lock.ErrBusy) && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	for range 100 {
		held, err := l.Exclusive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := held.Context().Err(); err != nil {
			t.Error("it was taken from its holder:", context.Cause(held.Context()))
		}
		held.Close()
	}
	stop()
	removing.Wait()
}

// TestClose_afterTheLineIsGone: the session, and what else it holds, stays.
func TestClose_afterTheLineIsGone(t *testing.T) {
	s := newStage(t)
	sess := s.Dial()
	evicted, err := on(sess, s.Dir).Exclusive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := s.lock()
	next.Sweep = true
	state, err := lock.Look(t.Context(), sess, s.Dir)
	if err == nil {
		err = lock.Evict(t.Context(), sess, s.Dir, state.Holders[0].Place)
	}
	if err != nil {
		t.Fatal(err)
	}
	held, err := next.Exclusive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held.Close()
	evicted.Close()
	if err := sess.Err(); err != nil {
		t.Errorf("the session was given up: %v", err)
	}
}
