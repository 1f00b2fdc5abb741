package filelock_test

import (
	"context"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/session"
	"github.com/turnstile-fleet/turnstile/internal/zktest"
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

func (f *fleet) commit(hold *filelock.Hold, head string, again bool) *filelock.Place {
	f.t.Helper()
	next, err := hold.Commit(background(f.t), []byte(head), again)
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

// settledIn waits until the member waits for somebody: its watch is answered.
func (m *member) settledIn(seen <-chan struct{}) {
	m.f.t.Helper()
	for range 2 { // it looks at its own place, and at the one ahead
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

// waits starts to wait and returns when the watch is set.
func (m *member) waits(place *filelock.Place) <-chan outcome {
	m.f.t.Helper()
	seen := m.sees(zktest.OpGetData)
	done := m.waiting(background(m.f.t), place)
	m.settledIn(seen)
	m.proxy.OnRequest(nil)
	return done
}
