package session_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestDialExplainsInTimeWhyThereIsNoSession(t *testing.T) {
	garbage := func(says string) func(net.Conn) {
		return func(conn net.Conn) { fmt.Fprint(conn, says) }
	}
	tests := []struct {
		name    string
		servers func(testing.TB) []string
		cause   string
	}{
		{"nothing listens", func(t testing.TB) []string { return []string{nobody(t)} }, "connection refused"},
		{"accepts and says nothing", func(t testing.TB) []string { return []string{silent(t)} }, "no session was granted"},
		{"three silent ones", func(t testing.TB) []string { return []string{silent(t), silent(t), silent(t)} }, "no session was granted"},
		{"hangs up", func(t testing.TB) []string {
			return []string{listener(t, func(c net.Conn) { c.Close() })}
		}, "no session was granted"},
		{"speaks HTTP", func(t testing.TB) []string {
			return []string{listener(t, garbage("HTTP/1.1 400 Bad Request\r\n\r\n"))}
		}, "does not speak ZooKeeper's protocol"},
		{"a short answer", func(t testing.TB) []string {
			return []string{listener(t, garbage("\x00\x00\x00\x04\x00\x00\x00\x00"))}
		}, "no session was granted"},
		{"an empty answer", func(t testing.TB) []string {
			return []string{listener(t, garbage("\x00\x00\x00\x00"))}
		}, "no session was granted"},
		{"an unknown name", func(testing.TB) []string { return []string{"no-such-host.invalid:2181"} }, "no-such-host.invalid"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			servers := test.servers(t)
			const limit = 1500 * time.Millisecond
			quick(t, "Dial", limit+time.Second, func() {
				_, err := session.Dial(background(t), session.Options{
					Servers: servers, Timeout: 6 * time.Second, ConnectTimeout: limit,
				})
				if !errors.Is(err, session.ErrUnavailable) {
					t.Fatalf("got %v, want ErrUnavailable", err)
				}
				for _, want := range append(servers, test.cause) {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q does not name %q", err, want)
					}
				}
			})
		})
	}
}

func TestDialWithoutAConnectTimeoutTakesTheSessionsTimeout(t *testing.T) {
	t.Parallel()
	quick(t, "Dial", 2*time.Second, func() {
		_, err := session.Dial(background(t), session.Options{Servers: []string{silent(t)}, Timeout: time.Second})
		if !errors.Is(err, session.ErrUnavailable) {
			t.Fatalf("got %v, want ErrUnavailable", err)
		}
	})
}

func TestDialEndsWithItsContext(t *testing.T) {
	t.Parallel()
	why := errors.New("told to stop")
	ctx, stop := context.WithCancelCause(background(t))
	called, once := make(chan struct{}), sync.Once{}
	address := listener(t, func(net.Conn) { once.Do(func() { close(called) }) })
	go func() {
		<-called
		stop(why)
	}()
	quick(t, "Dial", patience, func() {
		_, err := session.Dial(ctx, session.Options{Servers: []string{address}, Timeout: time.Minute})
		if !errors.Is(err, why) {
			t.Fatalf("got %v, want the context's cause", err)
		}
	})
}

func TestDialWithoutServersIsRefused(t *testing.T) {
	if _, err := session.Dial(background(t), session.Options{Timeout: time.Second}); err == nil {
		t.Fatal("a session with nobody")
	}
}

func TestDialFindsTheServerThatLivesAmongTheDead(t *testing.T) {
	t.Parallel()
	alive := shared(t)
	for range 4 { // the order is shuffled
		sess := dialWith(t, session.Options{
			Servers: []string{nobody(t), silent(t), alive}, Timeout: 3 * time.Second, ConnectTimeout: patience,
		})
		if sess.ID() == 0 || sess.Timeout() != 3*time.Second || sess.Err() != nil {
			t.Fatalf("session %x, timeout %v, err %v", sess.ID(), sess.Timeout(), sess.Err())
		}
		sess.Close()
	}
}

func TestTimeoutIsTheOneGranted(t *testing.T) {
	t.Parallel()
	server := zktest.Start(t) // its least is a second
	sess := dial(t, 900*time.Millisecond, server.Addr)
	if got := sess.Timeout(); got != time.Second {
		t.Fatalf("timeout %v, want 1s", got)
	}
}
