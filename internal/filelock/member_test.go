package filelock_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// member is one agent, with a wire of its own.
type member struct {
	*filelock.Queue
	f     *fleet
	name  string
	sess  *session.Session
	proxy *zktest.Proxy
	log   *observer.ObservedLogs
}

func (f *fleet) member(name string) *member { return f.memberFor(name, 20*time.Second) }

func (f *fleet) memberFor(name string, timeout time.Duration) *member {
	f.t.Helper()
	proxy := zktest.NewProxy(f.t, f.addr)
	core, logs := observer.New(zap.DebugLevel)
	m := &member{f: f, name: name, proxy: proxy, log: logs, sess: f.dial(proxy.Addr, timeout)}
	m.Queue = filelock.New(m.sess, f.root, filelock.Member{Agent: name, Host: "test"}, nil, zap.New(core))
	return m
}

func (m *member) join() *filelock.Place {
	m.f.t.Helper()
	place, err := m.Join(background(m.f.t))
	if err != nil {
		m.f.t.Fatalf("%s: join: %v", m.name, err)
	}
	return place
}

// hold joins and waits for the turn.
func (m *member) hold() *filelock.Hold {
	m.f.t.Helper()
	return m.wait(m.join())
}

func (m *member) wait(place *filelock.Place) *filelock.Hold {
	m.f.t.Helper()
	hold, err := place.Wait(background(m.f.t))
	if err != nil {
		m.f.t.Fatalf("%s: wait: %v", m.name, err)
	}
	return hold
}

// newHolder is a fleet whose head is before's, with the member a, which has the turn.
func newHolder(t testing.TB) (*fleet, *member, *filelock.Hold) {
	t.Helper()
	f := newFleet(t)
	f.setHead("before")
	m := f.member("a")
	return f, m, m.hold()
}

// outcome is what Wait came to.
type outcome struct {
	who  *member
	hold *filelock.Hold
	err  error
}

func (m *member) waiting(ctx context.Context, place *filelock.Place) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		hold, err := place.Wait(ctx)
		done <- outcome{m, hold, err}
	}()
	return done
}

func (f *fleet) get(done <-chan outcome) outcome {
	f.t.Helper()
	select {
	case got := <-done:
		return got
	case <-time.After(patience):
		f.t.Fatal("still waiting")
		return outcome{}
	}
}

// wantHold wants that the wait ends with the turn, and that head is what the commit with that
// label made; "" means no head.
func (f *fleet) wantHold(done <-chan outcome, label string) {
	f.t.Helper()
	if got := f.get(done); got.err != nil {
		f.t.Errorf("the wait ended with %v", got.err)
	} else if head := labelOf(got.hold); head != label {
		f.t.Errorf("the turn came with head %q, want %q", head, label)
	}
}

func (f *fleet) wantWaiting(done <-chan outcome) {
	f.t.Helper()
	select {
	case got := <-done:
		f.t.Fatalf("%s did not wait: %v", got.who.name, got.err)
	default:
	}
}

func (f *fleet) commit(hold *filelock.Hold, head string, again bool) *filelock.Place {
	f.t.Helper()
	if _, begun := hold.Head(); !begun {
		if err := begin(f.t, hold, "begun"); err != nil {
			f.t.Fatalf("begin: %v", err)
		}
	}
	next, err := tryCommit(f.t, hold, head, again)
	if err != nil || again != (next != nil) {
		f.t.Fatalf("commit %s: next %v, %v", head, next, err)
	}
	return next
}

// sees waits until a packet of that kind has been sent by the member from now on.
func (m *member) sees(op int32) <-chan struct{} {
	seen := make(chan struct{}, 1000)
	m.proxy.OnRequest(func(p []byte) bool {
		if zktest.Op(p) == op {
			seen <- struct{}{}
		}
		return true
	})
	return seen
}

// settledIn waits until the member waits for somebody: its watch, the last of so many
// reads, is answered.
func (m *member) settledIn(seen <-chan struct{}, reads int) {
	m.f.t.Helper()
	for range reads {
		select {
		case <-seen:
		case <-time.After(patience):
			m.f.t.Fatalf("%s never came to wait", m.name)
		}
	}
	if err := m.sess.Sync(background(m.f.t), "/"); err != nil { // answered in order
		m.f.t.Fatal(err)
	}
}

// reads is how many it takes to wait: of the place ahead, and before it of our own when we
// have not seen its token.
func reads(place *filelock.Place) int {
	if place.Place.Token() == 0 {
		return 2
	}
	return 1
}

// waits starts to wait and returns when the watch is set.
func (m *member) waits(place *filelock.Place) <-chan outcome {
	m.f.t.Helper()
	seen := m.sees(zktest.OpGetData)
	reads := reads(place)
	done := m.waiting(background(m.f.t), place)
	m.settledIn(seen, reads)
	m.proxy.OnRequest(nil)
	return done
}
