package filelock_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/session"
	"github.com/turnstile-fleet/turnstile/internal/zktest"
)

// Somebody moved head under the holder's feet. The commit is refused, and the fleet
// goes on: no place may be left at the front by an agent that believes it lost it.
func TestACommitOntoAMovedHeadIsRefusedAndGivesThePlaceUp(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]string{"no head yet": "", "a head": "before"} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t)
			if before != "" {
				f.setHead(before)
			}
			a, b := f.member("a"), f.member("b")
			hold := a.hold()
			waits := b.waits(b.join())
			f.setHead("meddled")
			next, err := hold.Commit(background(t), []byte("stale"), true)
			is(t, "commit", err, filelock.ErrLost)
			if next != nil || errors.Is(err, filelock.ErrUnknown) {
				t.Errorf("next %v, err %v", next, err)
			}
			f.wantHead("meddled")
			select {
			case got := <-waits:
				if got.err != nil || string(got.hold.Head()) != "meddled" {
					t.Errorf("the next: %v", got.err)
				}
			case <-time.After(patience):
				t.Error("ErrLost says that our place is gone, yet it blocks the queue: " + f.agents())
			}
		})
	}
}

// lose has the transaction's answer lost: the server gets it, we hear nothing, and the
// connection breaks.
func lose(m *member) (multis *atomic.Int32) {
	multis = &atomic.Int32{}
	m.proxy.OnRequest(func(p []byte) bool {
		if zktest.IsMulti(p) && multis.Add(1) == 1 {
			m.proxy.LoseAnswer()
		}
		return true
	})
	return multis
}

func TestACommitWhoseAnswerIsLostIsSettled(t *testing.T) {
	t.Parallel()
	for name, settler := range map[string]func(*fleet, *member) *member{
		"on the same session": func(_ *fleet, m *member) *member { return m },
		"on a new one":        func(f *fleet, m *member) *member { m.sess.Close(); return f.member("again") },
		"on a new one beside": func(f *fleet, _ *member) *member { return f.member("again") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			f.setHead("before")
			m := f.member("a")
			hold := m.hold()
			multis := lose(m)
			_, err := hold.Commit(background(t), []byte("committed"), true)
			is(t, "commit", err, filelock.ErrUnknown)
			if errors.Is(err, filelock.ErrLost) || hold.Err() == nil {
				t.Errorf("commit: %v; hold: %v", err, hold.Err())
			}
			if n := multis.Load(); n != 2 {
				t.Errorf("the transaction was sent %d times", n)
			}
			version := f.head().Stat.Version
			s := settler(f, m)
			for range 2 { // settling is for repeating
				head, err := s.Settle(background(t), hold)
				if err != nil || string(head) != "committed" {
					t.Fatalf("settled: %q, %v", head, err)
				}
			}
			if got := f.head().Stat.Version; got != version || got != 1 {
				t.Errorf("head's version is %d, was %d: committed more than once", got, version)
			}
			f.wantAgents("") // the place that the commit took is gone too
			f.commit(s.hold(), "next", false)
		})
	}
}

func TestTheFirstCommitOfAllWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a")
	hold := m.hold()
	lose(m)
	is(t, "publish", hold.Publish(background(t), []byte("made")), filelock.ErrUnknown)
	f.wantHead("made")
	hold.Release()
	f.wantAgents("")
	if got := m.hold(); string(got.Head()) != "made" {
		t.Errorf("head %q", got.Head())
	}
}

func TestACommitThatNeverReachedTheServerIsSentAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.setHead("before")
	m := f.member("a")
	hold := m.hold()
	var sent [][]byte
	m.proxy.OnRequest(func(p []byte) bool {
		if !zktest.IsMulti(p) {
			return true
		}
		sent = append(sent, append([]byte(nil), p...)) // one after the other
		return len(sent) > 3
	})
	next := f.commit(hold, "committed", true)
	if len(sent) != 4 {
		t.Errorf("sent %d times", len(sent))
	}
	for _, p := range sent[1:] {
		if string(p[8:]) != string(sent[0][8:]) { // all but length and xid
			t.Error("not the same bytes again")
		}
	}
	f.wantHead("committed")
	if got := f.head().Stat.Version; got != 1 {
		t.Errorf("head's version is %d", got)
	}
	f.wantAgents("a")
	m.proxy.OnRequest(nil)
	f.commit(m.wait(next), "and again", false)
}

// The server never got it, the caller's time is up, and somebody settles: whatever
// still lies about of the transaction must not happen afterwards.
func TestACommitThatIsSettledAsNotCommittedNeverHappens(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.setHead("before")
	m := f.member("a")
	hold := m.hold()
	m.proxy.Refuse(true) // it stays in the library's queue
	ctx, stop := context.WithCancel(background(t))
	sent := make(chan error, 1)
	go func() {
		_, err := hold.Commit(ctx, []byte("late"), true)
		sent <- err
	}()
	stop()
	is(t, "commit", <-sent, filelock.ErrUnknown)
	again := f.member("again")
	head, err := again.Settle(background(t), hold)
	if err != nil || string(head) != "before" {
		t.Fatalf("settled: %q, %v", head, err)
	}
	f.commit(again.hold(), "another's", false)
	m.proxy.Refuse(false)
	if err := m.sess.Sync(background(t), "/"); err != nil { // behind the late transaction
		t.Fatal(err)
	}
	f.wantHead("another's")
	f.wantAgents("")
}

func TestASessionThatExpiresDuringTheCommitIsSettledByTheNext(t *testing.T) {
	t.Parallel()
	for name, reaches := range map[string]bool{"the server got it": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			f.setHead("before")
			m := f.memberFor("a", 2*time.Second)
			hold := m.hold()
			m.proxy.OnRequest(func(p []byte) bool {
				if zktest.IsMulti(p) {
					if reaches {
						m.proxy.Silence(true)
					} else {
						m.proxy.HalfOpen(true)
					}
				}
				return true
			})
			_, err := hold.Commit(context.Background(), []byte("committed"), true)
			is(t, "commit", err, filelock.ErrUnknown)
			is(t, "the session", m.sess.Err(), session.ErrExpired)
			is(t, "the hold", hold.Context().Err(), context.Canceled)
			again := f.member("again")
			head, err := again.Settle(background(t), hold)
			if err != nil {
				t.Fatal(err)
			}
			if committed := string(head) == "committed"; committed != reaches {
				t.Errorf("settled: head %q", head)
			}
			for _, e := range f.queue() {
				t.Errorf("in the queue: %+v", e)
			}
			m.proxy.OnRequest(nil)
			m.proxy.HalfOpen(false)
			f.wantHead(string(head))
			f.commit(again.hold(), "next", false)
		})
	}
}

// Evicted, and the connection broke under the commit: whether it happened before the
// eviction cannot be told from the refusal that follows.
func TestARefusalAfterALostAnswerProvesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.setHead("before")
	m := f.member("a")
	hold := m.hold()
	place := f.placeOf("a")
	var n atomic.Int32
	m.proxy.OnRequest(func(p []byte) bool {
		if zktest.IsMulti(p) && n.Add(1) == 1 {
			if err := filelock.Evict(context.Background(), f.sess, f.root, place); err != nil {
				t.Error(err)
			}
			return false
		}
		return true
	})
	_, err := hold.Commit(background(t), []byte("fenced"), false)
	is(t, "commit", err, filelock.ErrUnknown)
	head, err := m.Settle(background(t), hold)
	if err != nil || string(head) != "before" {
		t.Errorf("settled: %q, %v", head, err)
	}
}
