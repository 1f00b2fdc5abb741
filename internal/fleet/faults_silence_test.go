package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// mute accepts and never says a word.
func mute(t testing.TB) string {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listen.Close() })
	go func() { // ends with the listener
		for {
			conn, err := listen.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
		}
	}()
	return listen.Addr().String()
}

// A server that accepts and is silent: at the start it is told in time, with its name (row 7).
func TestRun_aServerThatIsSilentFromTheStartIsNamed(t *testing.T) {
	t.Parallel()
	addr := mute(t)
	s := newSite(t, addr)
	opts := s.calm(&script{name: "x", count: 1})
	opts.Dial = func(ctx context.Context) (fleet.Session, error) {
		sess, err := session.Dial(ctx, session.Options{Servers: []string{addr}, Timeout: 20 * time.Second, ConnectTimeout: time.Second})
		if err != nil {
			return nil, err
		}
		return sess, nil
	}
	began := time.Now()
	err := s.run(opts)
	if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "no session was granted") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if files := s.everything(); len(files) > 0 {
		t.Errorf("it made %v", files)
	}
}

// The server goes silent in the middle: the agent says why it does not commit, goes on
// when it is back, and is not held up when it is told to stop (row 7).
func TestRun_aServerThatFallsSilentHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	for name, back := range map[string]bool{"and is back": true, "for good": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, zktest.Shared(t))
			proxy := zktest.NewProxy(t, strings.Split(s.zk, ",")[0])
			source := &script{name: "mine", count: 8}
			source.before = func(turn int) {
				if turn == 3 {
					proxy.Silence(true)
				}
			}
			opts := s.calm(source)
			opts.Dial = s.dialer(proxy.Addr)
			agent := s.start(opts)
			s.until("it says why it does not commit", func() bool { return agent.says("not committing") })
			if back {
				proxy.Silence(false)
				if err := agent.wait(); err != nil {
					t.Fatal(err)
				}
				s.verify()
				s.wantOnce(source)
				return
			}
			began := time.Now()
			agent.stop()
			if err := agent.wait(); err != nil {
				t.Errorf("told to stop: %v", err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %v to stop", took)
			}
			if got := fmt.Sprint(s.records()); source.Pending() != 5 || got != "[mine 0 mine 1 mine 2]" {
				t.Errorf("%d pending, the file holds %s", source.Pending(), got)
			}
		})
	}
}
