package filelock_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// parsed is head as it stands.
func (f *fleet) parsed() frame.Head {
	f.t.Helper()
	head, err := frame.ParseHead(f.head().Data)
	if err != nil {
		f.t.Fatal(err)
	}
	return head
}

// places is who has a place in the line with the number k.
func (f *fleet) places(k uint32) (names []string) {
	f.t.Helper()
	entries, err := queue.Look(background(f.t), f.sess, f.root.Queue(k))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Agent)
	}
	return names
}

// What a server counts is half used: the fleet moves on, and who waits in the old queue
// comes after.
func TestTheFleetMovesOnToNewCounters(t *testing.T) {
	t.Parallel()
	const half = 1<<30 - 1
	for name, test := range map[string]struct{ creates, version int32 }{
		"head's version": {10, half - 1}, "the queue's sequence": {half - 1, 10}, "both": {half - 1, half - 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := zktest.Start(t)
			f := newFleetAt(t, server.Addr)
			f.setHead("before")
			server.SetCounters(t, f.root.Head(), 0, test.version)
			server.SetCounters(t, f.root.Queue(1), test.creates, 0)
			a, b := f.member("a"), f.member("b")
			hold := a.hold()
			turns := uint64(1)
			if next := f.commit(hold, "one", true); f.parsed().Queue == 1 { // not yet: up to half, not from it
				turns++
				f.commit(a.wait(next), "two", false)
			} else {
				t.Error("the fleet moved on before half was used")
			}
			head := f.parsed()
			if stat := f.head().Stat; head.Queue != 2 || head.Turn != turns || stat.Version != 0 || stat.Czxid != stat.Mzxid {
				t.Fatalf("head %+v, %+v", head, stat)
			}
			// It follows at once, and is in order.
			hold = b.hold()
			if got, _ := hold.Head(); got != head || hold.Token() <= head.Token {
				t.Errorf("head %+v, token %v, want %+v", got, hold.Token(), head)
			}
			next := f.commit(hold, "three", true)
			if got := f.places(2); len(got) != 1 || got[0] != "b" || next.Token() == 0 {
				t.Errorf("in queue-2: %v", got)
			}
			if f.head().Stat.Version != 1 || f.parsed().Queue != 2 {
				t.Errorf("head %+v", f.parsed())
			}
			f.commit(b.wait(next), "four", false)
			f.wantTurns(1, 2, 3, 4)
			if got := f.places(1); len(got) != 0 {
				t.Errorf("in queue-1: %v", got)
			}
		})
	}
}

// rolling is a fleet whose next commit moves it on.
func rolling(t *testing.T) *fleet {
	filelock.SetHalf(t, 0)
	f := newFleet(t)
	f.setHead("before")
	return f
}

func TestWhoWaitsInTheOldQueueQueuesAgain(t *testing.T) {
	f := rolling(t)
	a, b, c := f.member("a"), f.member("b"), f.member("c")
	hold := a.hold()
	waitsB := b.waits(b.join())
	waitsC := c.waits(c.join())
	next := f.commit(hold, "one", true)
	filelock.SetHalf(t, 1<<30)
	for _, waits := range []<-chan outcome{waitsB, waitsC} {
		got := f.get(waits)
		is(t, "wait", got.err, filelock.ErrLost)
		if got.hold != nil {
			t.Error("a hold in a queue that is not in use")
		}
	}
	if got := f.places(1); len(got) != 0 {
		t.Errorf("in queue-1: %v", got)
	}
	waitsB = b.waits(b.join())
	f.wantAgents("a b")
	f.commit(a.wait(next), "two", false)
	f.wantHold(waitsB, "two")
	// Who knows nothing of it begins where head says.
	late := f.member("late")
	late.join()
	f.wantAgents("b late")
}

// Whoever joins the old queue when nobody is there is not the holder.
func TestTheOldQueueGivesNoTurn(t *testing.T) {
	f := rolling(t)
	b := f.member("b")
	place := b.join()
	is(t, "leave", f.sess.Delete(background(t), place.Path()), nil)
	f.commit(f.member("a").hold(), "one", true)
	place = b.join() // it knows of queue-1 only
	_, err := place.Wait(background(t))
	is(t, "wait", err, filelock.ErrLost)
	b.join()
	f.wantAgents("a b")
}

// A fleet that began anew has a queue-2 of old: it is as good as a new one.
func TestTheNextQueueMayBeThere(t *testing.T) {
	f := rolling(t)
	is(t, "ensure", queue.Ensure(background(t), f.sess, f.root.Queue(2)), nil)
	m := f.member("a")
	m.wait(f.commit(m.hold(), "one", true))
	if f.parsed().Queue != 2 {
		t.Errorf("head %+v", f.parsed())
	}
}

func TestARefusedMoveLeavesTheTurn(t *testing.T) {
	f := rolling(t)
	m := f.member("a")
	hold := m.hold()
	nodes, ops := f.with("x", "y")
	is(t, "delete", f.sess.Delete(background(t), nodes[1]), nil)
	for range 2 {
		_, err := hold.Commit(background(t), filelock.Commit{Turn: turn(hold, "one"), Again: true, With: ops})
		var refused *filelock.RefusedError
		if !errors.As(err, &refused) || refused.At != 1 {
			t.Fatal(err)
		}
	}
	f.wantHead("before")
	next, err := hold.Commit(background(t), filelock.Commit{
		Turn: turn(hold, "one"), Again: true, With: ops[:1], Drop: []string{f.turnNode(9)},
	})
	if err != nil || f.parsed().Queue != 2 || f.isThere(nodes[0]) {
		t.Fatalf("%v, head %+v", err, f.parsed())
	}
	f.commit(m.wait(next), "two", false)
}

func TestAnEvictedHolderMovesNobody(t *testing.T) {
	f := rolling(t)
	m := f.member("a")
	hold := m.hold()
	f.evict(f.placeOf("a"))
	before := f.head()
	_, err := tryCommit(t, hold, "late", true)
	is(t, "commit", err, filelock.ErrLost)
	if after := f.head(); *after.Stat != *before.Stat {
		t.Errorf("head %+v, was %+v", after.Stat, before.Stat)
	}
	f.wantTurns()
	if hold := m.hold(); labelOf(hold) != "before" {
		t.Errorf("then: %q", labelOf(hold))
	}
}

func TestAMoveNeedsTheHeadThatWasRead(t *testing.T) {
	f := rolling(t)
	hold := f.member("a").hold()
	f.setHead("moved")
	_, err := tryCommit(t, hold, "late", true)
	is(t, "commit", err, filelock.ErrLost)
	f.wantHead("moved")
	f.wantAgents("")
}

// The move's answer is lost: the place that it took in the new queue is found.
func TestAMoveWhoseAnswerIsLostIsSettled(t *testing.T) {
	for name, settler := range map[string]func(*fleet, *member) *member{
		"on the same session": func(_ *fleet, m *member) *member { return m },
		"on a new one":        func(f *fleet, _ *member) *member { return f.member("again") },
	} {
		t.Run(name, func(t *testing.T) {
			f := rolling(t)
			m := f.member("a")
			hold := m.hold()
			lose(m)
			_, err := tryCommit(t, hold, "one", true)
			is(t, "commit", err, filelock.ErrUnknown)
			m.proxy.OnRequest(nil)
			f.wantAgents("a")
			s := settler(f, m)
			head, err := s.Settle(background(t), hold)
			if err != nil || head.Agent != "one" || head.Queue != 2 {
				t.Fatalf("settled: %+v, %v", head, err)
			}
			f.wantAgents("")
			f.wantTurns(1)
			f.commit(s.hold(), "two", false)
		})
	}
}

// What begins an incarnation does not know which queue is in use.
func TestAnAdoptionDoesNotMoveTheFleet(t *testing.T) {
	f := rolling(t)
	m := f.member("a")
	hold := m.wait(f.commit(m.hold(), "one", true))
	filelock.SetHalf(t, 1<<30)
	head := beginning("adopted") // it says 1
	head.Incarnation[15]++
	if err := hold.Publish(background(t), head); err != nil {
		t.Fatal(err)
	}
	if got := f.parsed(); got.Queue != 2 {
		t.Errorf("head %+v", got)
	}
	waits := f.member("b")
	w := waits.waits(waits.join())
	f.commit(hold, "two", false)
	f.wantHold(w, "two")
}

// Head was deleted by hand when the fleet was in queue-2. Nobody may hang on there.
func TestWithoutHeadTheFleetBeginsInQueue1(t *testing.T) {
	f := rolling(t)
	m := f.member("a")
	next := f.commit(m.hold(), "one", true)
	is(t, "delete", f.sess.Delete(background(t), f.root.Head()), nil)
	_, err := next.Wait(background(t))
	is(t, "wait", err, filelock.ErrLost)
	hold := m.hold()
	if _, ok := hold.Head(); ok || len(f.places(1)) != 1 {
		t.Errorf("there is a head: %v; in queue-1: %v", ok, f.places(1))
	}
}

// Agents that move on every few turns: nobody is lost, nothing is out of order.
func TestManyMoves(t *testing.T) {
	filelock.SetHalf(t, 3)
	f := newFleet(t)
	f.setHead("before")
	const agents, each = 3, 15
	var mu sync.Mutex
	var last frame.Token
	var wg sync.WaitGroup
	for i := range agents {
		m := f.member(fmt.Sprint("m", i))
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		wg.Go(func() {
			var place *filelock.Place
			for done := 0; done < each; {
				var err error
				if place == nil {
					if place, err = m.Join(ctx); err != nil {
						t.Error(err)
						return
					}
				}
				hold, err := place.Wait(ctx)
				if errors.Is(err, filelock.ErrLost) {
					place = nil
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if hold.Token() <= last {
					t.Errorf("token %v after %v", hold.Token(), last)
				}
				last = hold.Token()
				mu.Unlock()
				if place, err = tryCommit(t, hold, m.name, true); err != nil {
					t.Error(err)
					return
				}
				done++
			}
			place.Leave()
		})
	}
	wg.Wait()
	head := f.parsed()
	if head.Turn != agents*each || head.Queue < 5 || len(f.turns()) != agents*each {
		t.Errorf("head %+v, %d nodes", head, len(f.turns()))
	}
	f.wantAgents("")
}

// The counter has come to its end nevertheless.
func TestASequenceThatIsUsedUp(t *testing.T) {
	t.Parallel()
	server := zktest.Start(t)
	f := newFleetAt(t, server.Addr)
	f.setHead("before")
	early := f.member("early") // it knows of queue-1 only
	early.join().Leave()
	server.SetCounters(t, f.root.Queue(1), 1<<31-2, 0)
	m := f.member("a")
	hold := m.hold() // the last number but one
	f.commit(hold, "one", false)
	if f.parsed().Queue != 2 {
		t.Errorf("head %+v", f.parsed())
	}
	// The old one is at its end: that matters to nobody.
	server.SetCounters(t, f.root.Queue(1), 1<<31-1, 0)
	other := f.member("b")
	f.commit(other.hold(), "two", false)
	f.commit(early.hold(), "three", false)
	server.SetCounters(t, f.root.Queue(2), 1<<31-1, 0)
	_, err := other.Join(background(t))
	is(t, "join", err, queue.ErrExhausted)
	if got := f.places(2); len(got) != 0 {
		t.Errorf("in queue-2: %v", got)
	}
}
