package inbox_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/recipe/inbox"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// requests calls see with the number, from 1, of each request but pings and the like.
func requests(proxy *zktest.Proxy, see func(n int32, op int32) bool) {
	var seen atomic.Int32
	proxy.OnRequest(func(p []byte) bool {
		switch op := zktest.Op(p); {
		case op <= 0, op == zktest.OpPing, op == zktest.OpSetWatches:
			return true
		default:
			return see(seen.Add(1), op)
		}
	})
}

// A connection breaks at each request in turn, before it reaches the server or when its
// answer is under way: each message is sent once, in order, and nothing is left behind.
func TestWhateverConnectionBreaksMessagesAreSentOnce(t *testing.T) {
	t.Parallel()
	for name, reaches := range map[string]bool{"answers": true, "requests": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t)
			proxy := zktest.NewProxy(t, b.Server.Addr)
			var sent []string
			unnamed, ended := 0, false
			for at := int32(1); !ended; at++ {
				s := b.sender(proxy.Addr)
				ended = true
				requests(proxy, func(n, _ int32) bool {
					if n != at {
						return true
					}
					ended = false
					if reaches {
						proxy.LoseAnswer()
					}
					return reaches
				})
				for part := range 2 {
					records := numbered(strings.Repeat("x", int(at))+"abc"[part:part+1], 3)
					names, err := s.Send(recipetest.Background(t), raw(records)...)
					if err != nil || len(names) != 3 {
						t.Fatalf("request %d lost: %v, %v", at, names, err)
					}
					if names[0] == "" {
						unnamed++
					}
					sent = append(sent, records...)
				}
				s.Close()
				proxy.OnRequest(nil)
			}
			b.want(sent...)
			if want := map[bool]int{true: 2, false: 0}[reaches]; unnamed != want {
				t.Errorf("%d batches have no names, want %d", unnamed, want)
			}
			if left, _ := b.Sess.Children(t.Context(), b.dir.Sending()); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			b.NothingLeft()
		})
	}
}

// The session ends while a batch is under way. Whether the server got it or not, it is
// found out with the next session.
func TestABatchInDoubtIsSettledAcrossSessions(t *testing.T) {
	t.Parallel()
	for name, reaches := range map[string]bool{"the server got it": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t)
			proxy := zktest.NewProxy(t, b.Server.Addr)
			var multis atomic.Int32
			proxy.OnRequest(func(p []byte) bool {
				if zktest.IsMulti(p) && multis.Add(1) == 2 {
					if reaches {
						proxy.Silence(true)
					} else {
						proxy.HalfOpen(true)
					}
				}
				return true
			})
			var dials atomic.Int32
			s := b.sender("", func(o *inbox.SenderOptions) {
				o.Dial = func(ctx context.Context) (*session.Session, error) {
					if dials.Add(1) > 1 {
						return b.dialer(b.Server.Addr, calm)(ctx)
					}
					return b.dialer(proxy.Addr, 2*time.Second)(ctx)
				}
			})
			for _, r := range []string{"one", "two", "three"} {
				if _, err := s.Send(recipetest.Background(t), []byte(r), []byte(r+"'")); err != nil {
					t.Fatal(err)
				}
			}
			b.want("one", "one'", "two", "two'", "three", "three'")
			if n := dials.Load(); n != 2 {
				t.Errorf("%d sessions, want 2", n)
			}
		})
	}
}

// The sender is told to stop, or finds no server, while a batch is in doubt: it says so.
// What the server gets later must not be what the sender sends again.
func TestWhatStaysInDoubtIsReported(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]bool{"told to stop": true, "no server answers": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t)
			proxy := zktest.NewProxy(t, b.Server.Addr)
			ctx, cancel := context.WithCancel(recipetest.Background(t))
			defer cancel()
			patience := recipetest.Patience // for the first session
			s := b.sender("", func(o *inbox.SenderOptions) {
				o.Dial = func(ctx context.Context) (*session.Session, error) {
					within := patience
					patience = time.Second
					return session.Dial(ctx, session.Options{Servers: []string{proxy.Addr}, Timeout: 4 * time.Second, ConnectTimeout: within})
				}
			})
			if _, err := s.Send(ctx, []byte("before")); err != nil {
				t.Fatal(err)
			}
			proxy.OnRequest(func(p []byte) bool {
				if zktest.IsMulti(p) {
					proxy.HalfOpen(true)
					if stop {
						cancel()
					}
				}
				return true
			})
			names, err := s.Send(ctx, raw(numbered("r", 3))...)
			var doubt *inbox.DoubtError
			if !errors.As(err, &doubt) || doubt.Messages != 3 || len(names) != 0 {
				t.Errorf("%v, %v", names, err)
			}
			if want := map[bool]error{true: context.Canceled, false: session.ErrUnavailable}[stop]; !errors.Is(err, want) {
				t.Errorf("the error is %v, want %v", err, want)
			}
			b.want("before")
		})
	}
}

func TestABadRecordIsRefusedAfterThoseBeforeItWereSent(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	names, err := b.sender(b.Server.Addr).Send(t.Context(), []byte("one"), []byte("two"), []byte("bell\a"), []byte("never"))
	var bad *frame.RecordError
	if !errors.As(err, &bad) || len(names) != 2 {
		t.Errorf("%v, %v", names, err)
	}
	b.want("one", "two")
}

func TestLargeBatchesAreSplit(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	large := make([]string, 20) // 64 KiB each
	for i := range large {
		large[i] = strings.Repeat("x", 64<<10)
	}
	b.send(5, large...)
	b.send(5, numbered("r", 250)...)
	b.want(append(large, numbered("r", 250)...)...)
}

// Told to stop while a batch is under way, a sender has a moment to hear of it.
func TestABatchUnderWayIsBroughtToItsEnd(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	proxy := zktest.NewProxy(t, b.Server.Addr)
	ctx, cancel := context.WithCancel(recipetest.Background(t))
	s := b.sender(proxy.Addr)
	if _, err := s.Send(ctx, []byte("one")); err != nil {
		t.Fatal(err)
	}
	proxy.OnRequest(func(p []byte) bool {
		if zktest.IsMulti(p) {
			cancel()
			proxy.LoseAnswer()
			proxy.OnRequest(nil)
		}
		return true
	})
	if names, err := s.Send(ctx, []byte("two")); err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
	if _, err := s.Send(ctx, []byte("three")); !errors.Is(err, context.Canceled) {
		t.Errorf("then: %v", err)
	}
	b.want("one", "two")
}
