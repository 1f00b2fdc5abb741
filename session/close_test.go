package session_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestCloseRemovesEphemeralNodesAtOnce(t *testing.T) {
	t.Parallel()
	observer := dial(t, 20*time.Second, shared(t))
	sess := dial(t, 20*time.Second, shared(t))
	path := node(t, observer, "mine")
	create(t, sess, path, zk.FlagEphemeral)
	sess.Close()
	if exists(t, observer, path) {
		t.Error("the ephemeral node is there after Close")
	}
	if err := sess.Err(); !errors.Is(err, session.ErrClosed) {
		t.Errorf("Err is %v, want ErrClosed", err)
	}
	sess.Close() // again
	if _, err := sess.Get(context.Background(), "/"); !errors.Is(err, session.ErrClosed) {
		t.Errorf("a request afterwards ended with %v", err)
	}
}

// closes measures Close, which promises to end well within a second, and gives it up
// rather than to wait for ever.
func closes(t testing.TB, sess *session.Session) (ended bool) {
	t.Helper()
	done := make(chan struct{})
	start := time.Now()
	go func() {
		sess.Close()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		_, stacks := goroutines()
		t.Errorf("Close does not end:\n%s", stacks)
		return false
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("Close took %v, more than a second", took.Round(time.Millisecond))
	}
	if sess.Err() == nil {
		t.Error("no error after Close")
	}
	return true
}

func TestCloseEndsSoonWhateverTheServerDoes(t *testing.T) {
	for name, harm := range map[string]func(testing.TB, *zktest.Proxy, *session.Session){
		"silent":   func(_ testing.TB, p *zktest.Proxy, _ *session.Session) { p.HalfOpen(true) },
		"refusing": func(_ testing.TB, p *zktest.Proxy, _ *session.Session) { p.Refuse(true) },
		"silent, with requests under way": func(_ testing.TB, p *zktest.Proxy, s *session.Session) {
			p.HalfOpen(true)
			for range 40 { // more than the library's queue holds
				go s.Get(context.Background(), "/") //nolint:errcheck // it ends with the session
			}
		},
		"silent after a reconnect": func(t testing.TB, p *zktest.Proxy, _ *session.Session) {
			again := make(chan struct{})
			var once sync.Once
			p.OnRequest(func([]byte) bool { once.Do(func() { close(again) }); return true })
			p.HalfOpen(true)
			p.Cut()
			<-again
		},
		"session over": func(_ testing.TB, _ *zktest.Proxy, s *session.Session) { s.Discard("a test says so") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := zktest.NewProxy(t, shared(t))
			sess := dial(t, 12*time.Second, proxy.Addr)
			harm(t, proxy, sess)
			closes(t, sess)
		})
	}
}

// The library is inside our dialer: TCP is there, TLS is not answered.
func TestCloseEndsSoonWhileADialIsUnderWay(t *testing.T) {
	t.Parallel()
	secure, trust := tlsProxy(t, shared(t))
	sess := dialWith(t, session.Options{Servers: []string{secure.addr}, Timeout: 12 * time.Second, TLS: trust})
	secure.stall()
	<-secure.stalled
	closes(t, sess)
}

// The library can deadlock here: a request that is queued while it closes is answered
// three times, into a channel that holds two. Close has to end all the same.
func TestCloseAndRequestsAtOnce(t *testing.T) {
	t.Parallel()
	proxy := zktest.NewProxy(t, shared(t))
	for round := range 40 {
		sess, err := session.Dial(background(t), session.Options{Servers: []string{proxy.Addr}, Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(background(t))
		var wg sync.WaitGroup
		begun := atomic.Int32{}
		for range 8 {
			wg.Go(func() {
				for {
					_, err := sess.Get(ctx, "/")
					if begun.Add(1); err != nil {
						return
					}
				}
			})
		}
		eventually(t, "requests are under way", func() bool { return begun.Load() > 20 })
		if round%2 == 0 {
			go proxy.Cut()
		}
		wg.Go(sess.Close)
		if !closes(t, sess) {
			stop()
			return
		}
		wg.Wait()
		stop()
		if err := sess.Err(); !errors.Is(err, session.ErrClosed) {
			t.Fatalf("Err is %v, want ErrClosed", err)
		}
	}
}

// Not parallel: it counts goroutines.
func TestNothingRunsOnAfterClose(t *testing.T) {
	none := func(what string) {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			n, stacks := goroutines()
			if n == 0 {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("after %s: %d goroutines are left:\n%s", what, n, stacks)
			}
		}
	}
	none("earlier tests")
	proxy := zktest.NewProxy(t, shared(t))
	sess := dial(t, 6*time.Second, proxy.Addr)
	path := node(t, sess, "a")
	create(t, sess, path, 0)
	if _, err := sess.Watch(background(t), path); err != nil {
		t.Fatal(err)
	}
	sess.Close()
	none("a plain Close")

	sess = dial(t, 6*time.Second, proxy.Addr)
	proxy.HalfOpen(true)
	for range 40 {
		go sess.Get(context.Background(), "/") //nolint:errcheck // it ends with the session
	}
	sess.Close()
	none("Close with a silent server and requests under way")

	if _, err := session.Dial(background(t), session.Options{Servers: []string{proxy.Addr}, Timeout: time.Second}); err == nil {
		t.Fatal("a session with a silent server")
	}
	none("a Dial that failed")
	proxy.HalfOpen(false)
	proxy.Cut()

	sess = dial(t, 6*time.Second, proxy.Addr)
	sess.Discard("a test says so")
	sess.Close()
	none("Discard and Close")
}

func TestTLS(t *testing.T) {
	t.Parallel()
	secure, trust := tlsProxy(t, shared(t))
	sess := dialWith(t, session.Options{Servers: []string{secure.addr}, Timeout: 20 * time.Second, TLS: trust})
	if err := sess.Sync(background(t), "/"); err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]*tls.Config{
		"an authority we do not trust": {RootCAs: x509.NewCertPool()},
		"another name":                 {RootCAs: trust.RootCAs, ServerName: "zookeeper.example"},
	} {
		_, err := session.Dial(background(t), session.Options{
			Servers: []string{secure.addr}, Timeout: 20 * time.Second, ConnectTimeout: 3 * time.Second, TLS: config,
		})
		if !errors.Is(err, session.ErrUnavailable) || !contains(err, "certificate") {
			t.Errorf("%s: %v", name, err)
		}
	}
	quick(t, "Dial with TLS to a silent server", 2*time.Second, func() {
		_, err := session.Dial(background(t), session.Options{Servers: []string{silent(t)}, Timeout: time.Second, TLS: trust})
		if !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}
