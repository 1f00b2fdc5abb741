package session_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// endless are requests whose context never ends, more than the library's queue holds.
type endless struct {
	t     *testing.T
	sess  *session.Session
	ended chan error
	n     int
}

// ask returns when all have begun.
func ask(t *testing.T, sess *session.Session, n int) *endless {
	e := &endless{t: t, sess: sess, ended: make(chan error, n), n: n}
	var begun sync.WaitGroup
	defer begun.Wait()
	for i := range n {
		begun.Add(1)
		go func() {
			begun.Done()
			ctx := context.WithoutCancel(t.Context())
			var err error
			switch i % 3 {
			case 0:
				_, err = sess.Get(ctx, "/")
			case 1:
				_, err = sess.Multi(ctx, &zk.CheckVersionRequest{Path: "/", Version: -1})
				if errors.Is(err, session.ErrBroken) { // of a write it is told
					err = nil
				}
			case 2:
				_, err = sess.Children(ctx, "/")
			}
			e.ended <- err
		}()
	}
	return e
}

// handedOver tells whether no request of ask is still on its way into the library: those
// that are there wait for a channel.
func handedOver() bool {
	return !slices.ContainsFunc(stacksWith("session_test.ask.func"), func(stack string) bool {
		state, _, _ := strings.Cut(stack, ":")
		return !strings.Contains(state, "[select") && !strings.Contains(state, "[chan")
	})
}

// end waits for all, and wants each to have ended with want or with no error.
func (e *endless) end(within time.Duration, want error) {
	e.t.Helper()
	late := time.After(within)
	for i := range e.n {
		select {
		case err := <-e.ended:
			if err != nil && !errors.Is(err, want) {
				e.t.Errorf("a request ended with %v, want %v", err, want)
			}
		case <-late:
			_, stacks := goroutines()
			e.t.Fatalf("%d of %d requests have not ended within %v\n%s", e.n-i, e.n, within, stacks)
		}
	}
}

// What may go wrong with a connection, and then with the session.
var wrongs = map[string]func(*zktest.Proxy){
	"silent":                func(p *zktest.Proxy) { p.Silence(true) },
	"half open":             func(p *zktest.Proxy) { p.HalfOpen(true) },
	"cut, and no other":     func(p *zktest.Proxy) { p.Refuse(true) },
	"cut, the next silent":  func(p *zktest.Proxy) { p.Silence(true); p.Cut() },
	"cut again and again":   func(p *zktest.Proxy) { p.OnRequest(func([]byte) bool { return false }) },
	"half open after a cut": func(p *zktest.Proxy) { p.HalfOpen(true); p.Cut() },
}

const manyRequests = 50

// goesWrong makes requests before, while and after something goes wrong. A connection that
// is cut is seen to be cut before the last of them.
func goesWrong(t *testing.T, sess *session.Session, proxy *zktest.Proxy, name string) (asked []*endless) {
	t.Helper()
	asked = append(asked, ask(t, sess, manyRequests))
	connection := sess.Connections()
	wrongs[name](proxy)
	asked = append(asked, ask(t, sess, manyRequests))
	if strings.Contains(name, "cut") {
		eventually(t, "it is cut", func() bool { return !sess.Connected() || sess.Connections() > connection })
	}
	return append(asked, ask(t, sess, manyRequests))
}

func TestARequestWithoutAnEndEndsWithTheSessionsDeadline(t *testing.T) {
	t.Parallel()
	for name := range wrongs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := zktest.NewProxy(t, shared(t))
			sess := dial(t, 2*time.Second, proxy.Addr)
			all := goesWrong(t, sess, proxy, name)
			over(t, sess, 4*time.Second)
			const moment = 500 * time.Millisecond
			for _, asked := range all {
				asked.end(moment, session.ErrExpired)
			}
			ask(t, sess, 3).end(moment, session.ErrExpired)
		})
	}
}

func TestARequestWithoutAnEndEndsWithDiscardAndClose(t *testing.T) {
	t.Parallel()
	for name := range wrongs {
		for what, end := range map[string]struct {
			with func(*session.Session)
			want error
		}{
			"discarded": {func(s *session.Session) { s.Discard("a test says so") }, session.ErrExpired},
			"closed":    {func(s *session.Session) { s.Close() }, session.ErrClosed},
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				t.Parallel()
				proxy := zktest.NewProxy(t, shared(t))
				sess := dial(t, 20*time.Second, proxy.Addr)
				all := goesWrong(t, sess, proxy, name)
				// One that meets the end on its way may have to wait for a second, see call.
				eventually(t, "all requests are handed over", handedOver)
				quick(t, what, 3*time.Second, func() { end.with(sess) })
				const moment = 500 * time.Millisecond
				for _, asked := range all {
					asked.end(moment, end.want)
				}
				sess.Close()
			})
		}
	}
}

// However the session's end and a request meet.
func TestARequestWithoutAnEndNeverMissesTheEnd(t *testing.T) {
	t.Parallel()
	for i := range 40 {
		proxy := zktest.NewProxy(t, shared(t))
		sess := dial(t, 20*time.Second, proxy.Addr)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					if _, err := sess.Get(context.Background(), "/"); err != nil {
						if !errors.Is(err, session.ErrExpired) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		time.Sleep(time.Duration(i) * 100 * time.Microsecond) // any moment will do
		if i%2 == 0 {
			proxy.Refuse(true)
		}
		time.Sleep(time.Duration(i/2%4) * 300 * time.Microsecond)
		quick(t, fmt.Sprint("end ", i), 2*time.Second, func() {
			sess.Discard("a test says so")
			wg.Wait()
		})
		sess.Close()
	}
}

// While it is disconnected the library looks for requests once, and then only after a
// second again. Not parallel: it looks how long something takes.
func TestARequestWithoutAnEndThatBeginsDisconnected(t *testing.T) {
	for range 10 {
		proxy := zktest.NewProxy(t, shared(t))
		sess := dial(t, 20*time.Second, proxy.Addr)
		proxy.Refuse(true)
		eventually(t, "it is cut", func() bool { return !sess.Connected() })
		var wg sync.WaitGroup
		for i := range 300 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Microsecond)
				if _, err := sess.Get(context.Background(), "/"); !errors.Is(err, session.ErrExpired) {
					t.Error(err)
				}
			})
		}
		time.Sleep(1500 * time.Microsecond) // so that they begin on both sides of the end
		quick(t, "the end of all", 500*time.Millisecond, func() {
			sess.Discard("a test says so")
			wg.Wait()
		})
		sess.Close()
	}
}

// A connection that breaks is not the end: reads are repeated, writes are told.
func TestARequestWithoutAnEndOutlivesAConnection(t *testing.T) {
	t.Parallel()
	proxy := zktest.NewProxy(t, shared(t))
	sess := dial(t, 20*time.Second, proxy.Addr)
	for range 5 {
		proxy.LoseAnswer()
		if _, err := sess.Get(context.Background(), "/"); err != nil {
			t.Errorf("a read: %v", err)
		}
		proxy.LoseAnswer()
		if _, err := sess.Multi(context.Background(), &zk.CheckVersionRequest{Path: "/", Version: -1}); !errors.Is(err, session.ErrBroken) {
			t.Errorf("a write: %v", err)
		}
		if _, err := sess.Get(context.Background(), "/"); err != nil { // connected again
			t.Error(err)
		}
	}
}

// Close returns when the library has let go of all, so that nothing of them runs on.
// Not parallel: it counts goroutines.
func TestCloseWaitsForRequestsWithoutAnEnd(t *testing.T) {
	proxy := zktest.NewProxy(t, shared(t))
	for i := range 10 {
		sess := dial(t, 20*time.Second, proxy.Addr)
		proxy.Silence(true)
		asked := ask(t, sess, manyRequests)
		eventually(t, "all are asked", func() bool { n, _ := goroutines(); return n > manyRequests })
		sess.Close()
		// Who is runnable is on its way out, and may be kept waiting for a processor by
		// others on this machine; all others have to be gone at once.
		gone, patient := time.Now().Add(50*time.Millisecond), time.Now().Add(patience)
		for ; ; time.Sleep(time.Millisecond) {
			n, stacks := goroutines()
			if n <= i+1 { // a timer of the library's for each that was closed lately
				break
			}
			if strings.Contains(stacks, " [runnable]:") || strings.Contains(stacks, " [running]:") {
				gone = time.Now().Add(50 * time.Millisecond)
			}
			if time.Now().After(gone) || time.Now().After(patient) {
				t.Fatalf("%d goroutines run on:\n%s", n, stacks)
			}
		}
		asked.end(time.Second, session.ErrClosed)
		proxy.Silence(false)
		proxy.Cut()
	}
}
