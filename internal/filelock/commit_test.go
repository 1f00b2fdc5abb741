package filelock_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// Somebody moved head under the holder's feet. The commit is refused, and the fleet
// goes on: no place may be left at the front by an agent that believes it lost it.
func TestACommitOntoAMovedHeadIsRefusedAndGivesThePlaceUp(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]string{"at once": "", "after a turn": "before"} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t)
			f.setHead("first")
			if before != "" {
				f.commit(f.member("b").hold(), before, false)
			}
			a, b := f.member("a"), f.member("b")
			hold := a.hold()
			waits := b.waits(b.join())
			f.setHead("meddled")
			next, err := tryCommit(t, hold, "stale", true)
			is(t, "commit", err, filelock.ErrLost)
			if next != nil || errors.Is(err, filelock.ErrUnknown) {
				t.Errorf("next %v, err %v", next, err)
			}
			f.wantHead("meddled")
			select {
			case got := <-waits:
				if got.err != nil || labelOf(got.hold) != "meddled" {
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
			f, m, hold := newHolder(t)
			multis := lose(m)
			_, err := tryCommit(t, hold, "committed", true)
			is(t, "commit", err, filelock.ErrUnknown)
			if errors.Is(err, filelock.ErrLost) {
				t.Errorf("commit: %v", err)
			}
			if n := multis.Load(); n != 2 {
				t.Errorf("the transaction was sent %d times", n)
			}
			version := f.head().Stat.Version
			s := settler(f, m)
			for range 2 { // settling is for repeating
				head, err := s.Settle(background(t), hold)
				if err != nil || head.Agent != "committed" {
					t.Fatalf("settled: %q, %v", head.Agent, err)
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

func TestABeginningWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a")
	hold := m.hold()
	lose(m)
	is(t, "begin", begin(t, hold, "made"), filelock.ErrUnknown)
	f.wantHead("made")
	f.wantTurns(0)
	hold.Release()
	f.wantAgents("")
	if got := m.hold(); labelOf(got) != "made" {
		t.Errorf("head %q", labelOf(got))
	}
}

func TestACommitThatNeverReachedTheServerIsSentAgain(t *testing.T) {
	t.Parallel()
	f, m, hold := newHolder(t)
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
	f.commit(m.wait(next), "again", false)
}

// handing tells of each transaction that is about to be handed to the session.
type handing struct {
	filelock.Session
	multis chan struct{}
}

func (h handing) Multi(ctx context.Context, ops ...any) ([]zk.MultiResponse, error) {
	h.multis <- struct{}{}
	return h.Session.Multi(ctx, ops...)
}

// handing is a member with the turn, and tells of its transactions from then on.
func (f *fleet) handing(name string) (*member, *filelock.Hold, <-chan struct{}) {
	f.t.Helper()
	m := f.member(name)
	h := handing{m.sess, make(chan struct{}, 9)}
	m.Queue = filelock.New(h, f.root, filelock.Member{Agent: name, Host: "test"}, nil, zap.NewNop())
	return m, m.hold(), h.multis
}

// The server has not got it yet, and somebody settles: when it comes it must not happen.
func TestACommitThatIsSettledAsNotCommittedNeverHappens(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.setHead("before")
	m, hold, handed := f.handing("a")
	m.proxy.Refuse(true) // it stays in the library's queue
	sent := make(chan error, 1)
	go func() {
		_, err := tryCommit(t, hold, "late", true)
		sent <- err
	}()
	<-handed
	again := f.member("again")
	head, err := again.Settle(background(t), hold)
	if err != nil || head.Agent != "before" {
		t.Fatalf("settled: %q, %v", head.Agent, err)
	}
	f.commit(again.hold(), "anothers", false)
	m.proxy.Refuse(false)
	if err := <-sent; !errors.Is(err, filelock.ErrLost) && !errors.Is(err, filelock.ErrUnknown) {
		t.Errorf("commit: %v", err)
	}
	if err := m.sess.Sync(background(t), "/"); err != nil { // behind the late transaction
		t.Fatal(err)
	}
	f.wantHead("anothers")
	f.wantTurns(1)
	f.wantAgents("")
}

// Who is told to stop and gets no answer discards the session, as package fleet does.
func TestACommitWithoutAnAnswerEndsWithItsSession(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]func(*zktest.Proxy){
		"silent":       func(p *zktest.Proxy) { p.Silence(true) },
		"disconnected": func(p *zktest.Proxy) { p.Refuse(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			f.setHead("before")
			m, hold, handed := f.handing("a")
			wrong(m.proxy)
			ctx, stop := context.WithCancel(background(t))
			sent := make(chan error, 1)
			go func() {
				_, err := hold.Commit(ctx, filelock.Commit{Turn: turn(hold, "late"), Again: true})
				sent <- err
			}()
			<-handed
			stop()
			m.sess.Discard("told to stop")
			select {
			case err := <-sent:
				is(t, "commit", err, filelock.ErrUnknown)
			case <-time.After(patience):
				t.Fatal("the commit outlasts its session")
			}
		})
	}
}

// What is not to be begun is not begun.
func TestACommitWhoseContextHasEndedIsNotSent(t *testing.T) {
	t.Parallel()
	_, m, hold := newHolder(t)
	multis := m.counts()
	ctx, stop := context.WithCancel(background(t))
	stop()
	_, err := hold.Commit(ctx, filelock.Commit{Turn: turn(hold, "late")})
	is(t, "commit", err, context.Canceled)
	if n := multis.Load(); n != 0 {
		t.Errorf("sent %d times", n)
	}
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
			_, err := hold.Commit(context.Background(), filelock.Commit{Turn: turn(hold, "committed"), Again: true})
			is(t, "commit", err, filelock.ErrUnknown)
			is(t, "the session", m.sess.Err(), session.ErrExpired)
			again := f.member("again")
			head, err := again.Settle(background(t), hold)
			if err != nil {
				t.Fatal(err)
			}
			if committed := head.Agent == "committed"; committed != reaches {
				t.Errorf("settled: head %q", head.Agent)
			}
			for _, e := range f.queue() {
				t.Errorf("in the queue: %+v", e)
			}
			m.proxy.OnRequest(nil)
			m.proxy.HalfOpen(false)
			f.wantHead(head.Agent)
			f.commit(again.hold(), "next", false)
		})
	}
}

// Evicted, and the connection broke under the commit: whether it happened before the
// eviction cannot be told from the refusal that follows.
func TestARefusalAfterALostAnswerProvesNothing(t *testing.T) {
	t.Parallel()
	f, m, hold := newHolder(t)
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
	_, err := tryCommit(t, hold, "fenced", false)
	is(t, "commit", err, filelock.ErrUnknown)
	head, err := m.Settle(background(t), hold)
	if err != nil || head.Agent != "before" {
		t.Errorf("settled: %q, %v", head.Agent, err)
	}
}
