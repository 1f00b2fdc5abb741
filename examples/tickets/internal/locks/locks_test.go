package locks_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnstile-fleet/turnstile/session"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/stage"
)

func TestTake_oneHolderAtATime(t *testing.T) {
	stage.Each(t, func(t *testing.T, s *stage.Stage) {
		one, two := s.Open("one"), s.Open("two")
		raise(t, one, 7)
		first := take(t, one, "seat", time.Minute)
		if _, _, err := two.Take(t.Context(), "seat", 7, time.Minute); !errors.Is(err, locks.ErrTaken) {
			t.Errorf("the second has it too: %v", err)
		}
		if other := take(t, two, "another", time.Minute); !first.Less(other) || other.Epoch != 7 {
			t.Errorf("tokens %v, %v", first, other)
		}
		if held := holders(t, two, "seat", "free"); len(held) != 1 || held["seat"] != first {
			t.Errorf("held: %v, want seat with %v", held, first)
		}
	})
}

func TestFree_byAnyInstanceAndOnlyWithTheToken(t *testing.T) {
	stage.Each(t, func(t *testing.T, s *stage.Stage) {
		one, two := s.Open("one"), s.Open("two")
		raise(t, one, 1)
		first := take(t, one, "seat", time.Minute)
		if err := two.Free(t.Context(), "seat", locks.Token{Epoch: first.Epoch, Number: first.Number - 1}); err != nil {
			t.Fatal(err)
		}
		if held := holders(t, two, "seat"); held["seat"] != first {
			t.Fatalf("freed with another's token: %v", held)
		}
		for range 2 { // and again, when it is free already
			if err := two.Free(t.Context(), "seat", first); err != nil {
				t.Fatal(err)
			}
		}
		second := take(t, two, "seat", time.Minute)
		if !first.Less(second) {
			t.Errorf("tokens %v, then %v", first, second)
		}
		if err := one.Free(t.Context(), "seat", first); err != nil {
			t.Fatal(err)
		}
		if held := holders(t, one, "seat"); held["seat"] != second {
			t.Errorf("who was freed frees another's: %v", held)
		}
	})
}

func TestTake_isFreeAgainAfterItsTime(t *testing.T) {
	stage.Each(t, func(t *testing.T, s *stage.Stage) {
		one, two := s.Open("one"), s.Open("two")
		raise(t, one, 1)
		began := time.Now()
		first := take(t, one, "seat", time.Second)
		var second locks.Token
		stage.Until(t, "it is free", func(ctx context.Context) bool {
			var err error
			second, _, err = two.Take(ctx, "seat", 1, time.Minute)
			return err == nil
		})
		// Not a bound on speed: this is what is promised.
		if took := time.Since(began); took < time.Second || took > 2*time.Second {
			t.Errorf("free after %v, want 1 s and at most one more", took)
		}
		if !first.Less(second) {
			t.Errorf("tokens %v, then %v", first, second)
		}
	})
}

// TestTake_tokensRiseAsLocksAreTaken: of many who want one seat each has a higher token than
// who had it before.
func TestTake_tokensRiseAsLocksAreTaken(t *testing.T) {
	stage.Each(t, func(t *testing.T, s *stage.Stage) {
		instances := []locks.Locks{s.Open("one"), s.Open("two"), s.Open("three")}
		raise(t, instances[0], 1)
		var mu sync.Mutex
		var last locks.Token
		var all sync.WaitGroup
		for n := range 12 {
			l := instances[n%3]
			all.Go(func() {
				for range 5 {
					var token locks.Token
					stage.Until(t, "it is our turn", func(ctx context.Context) bool {
						var err error
						token, _, err = l.Take(ctx, "seat", 1, time.Minute)
						return err == nil
					})
					mu.Lock()
					if !last.Less(token) {
						t.Errorf("%v after %v", token, last)
					}
					last = token
					mu.Unlock()
					if err := l.Free(t.Context(), "seat", token); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	})
}

func TestTake_aServiceThatWasWipedWantsAnEpoch(t *testing.T) {
	stage.Each(t, func(t *testing.T, s *stage.Stage) {
		l := s.Open("one")
		if _, _, err := l.Take(t.Context(), "seat", 3, time.Minute); !errors.Is(err, locks.ErrEpoch) {
			t.Errorf("a new one: %v", err)
		}
		raise(t, l, 3)
		before := take(t, l, "seat", time.Minute)
		s.Wipe()
		if _, _, err := l.Take(t.Context(), "seat", 3, time.Minute); !errors.Is(err, locks.ErrEpoch) {
			t.Errorf("a wiped one: %v", err)
		}
		if held := holders(t, l, "seat"); len(held) != 0 {
			t.Errorf("a wiped one: %v", held)
		}
		raise(t, l, 4)
		raise(t, l, 2) // never back
		if after := take(t, l, "seat", time.Minute); !before.Less(after) || after.Epoch != 4 {
			t.Errorf("tokens %v, then %v", before, after)
		}
	})
}

// TestTake_aLockOfAnEarlierEpochIsFree: the database refuses whoever has it.
func TestTake_aLockOfAnEarlierEpochIsFree(t *testing.T) {
	stage.Each(t, func(t *testing.T, s *stage.Stage) {
		one, two := s.Open("one"), s.Open("two")
		raise(t, one, 3)
		first := take(t, one, "seat", time.Minute)
		if _, _, err := two.Take(t.Context(), "seat", 4, time.Minute); !errors.Is(err, locks.ErrEpoch) {
			t.Errorf("in an epoch that has not come: %v", err)
		}
		raise(t, one, 4)
		if held := holders(t, two, "seat"); len(held) != 0 {
			t.Errorf("held: %v", held)
		}
		if _, _, err := two.Take(t.Context(), "seat", 3, time.Minute); !errors.Is(err, locks.ErrEpoch) {
			t.Errorf("in an epoch that is over: %v", err)
		}
		var second locks.Token
		stage.Until(t, "it can be taken", func(ctx context.Context) (is bool) {
			var err error
			second, _, err = two.Take(ctx, "seat", 4, time.Minute)
			return err == nil
		})
		if !first.Less(second) || second.Epoch != 4 {
			t.Errorf("tokens %v, then %v", first, second)
		}
		if err := one.Free(t.Context(), "seat", first); err != nil {
			t.Fatal(err)
		}
		if held := holders(t, one, "seat"); held["seat"] != second {
			t.Errorf("held: %v, want %v", held, second)
		}
	})
}

// TestRedis_anAnswerThatWasLostLeavesNoLock: the script ran, and nobody learned its token.
func TestRedis_anAnswerThatWasLostLeavesNoLock(t *testing.T) {
	s := stage.New(t, locks.Redis)
	_, server, _ := strings.Cut(s.Addr(), "://")
	server, number, _ := strings.Cut(server, "/")
	line := newLine(t, server)
	far, near := s.OpenAt("redis://"+line.addr()+"/"+number, "far"), s.Open("near")
	raise(t, near, 1)
	take(t, far, "another", time.Hour) // the script is known from now on

	line.set(loses)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := far.Take(ctx, "seat", 1, time.Hour); !errors.Is(err, locks.ErrUnavailable) {
		t.Errorf("no answer came, and yet: %v", err)
	}
	take(t, near, "seat", time.Hour)

	line.set(breaks) // the client asks once more by itself, over another connection
	token, _, err := far.Take(t.Context(), "third", 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if held := holders(t, near, "third"); held["third"] != token {
		t.Errorf("held: %v, want %v", held, token)
	}
}

// TestRedis_whatOthersWroteThereIsNoLock, and no epoch: sales go on.
func TestRedis_whatOthersWroteThereIsNoLock(t *testing.T) {
	s := stage.New(t, locks.Redis)
	l := s.Open("one")
	opts, err := redis.ParseURL(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(opts)
	defer client.Close()
	client.HSet(t.Context(), "{tickets}:state", "epoch", "a word")
	if epoch, err := l.Epoch(t.Context()); err != nil || epoch != 0 {
		t.Errorf("epoch %d, %v", epoch, err)
	}
	raise(t, l, 1)
	client.Set(t.Context(), "{tickets}:lock:seat", "a word", 0)
	if held := holders(t, l, "seat"); len(held) != 0 {
		t.Errorf("held: %v", held)
	}
	take(t, l, "seat", time.Hour)
}

// TestZooKeeper_anInstanceThatFallsSilentHoldsNothing: at the latest after its session's
// timeout, though it may still run. It goes on by itself.
func TestZooKeeper_anInstanceThatFallsSilentHoldsNothing(t *testing.T) {
	s := stage.New(t, locks.ZooKeeper)
	line := newLine(t, s.Addr())
	silent, other := s.OpenAt(line.addr(), "silent"), s.Open("other")
	raise(t, other, 1)
	first := take(t, silent, "seat", time.Hour)
	line.set(dead)
	stage.Until(t, "it is free", func(ctx context.Context) bool { return len(holders(t, other, "seat")) == 0 })
	if second := take(t, other, "seat", time.Hour); !first.Less(second) {
		t.Errorf("tokens %v, then %v", first, second)
	}
	line.set(open)
	stage.Until(t, "it has another session", func(ctx context.Context) bool {
		_, _, err := silent.Take(ctx, "another", 1, time.Hour)
		return err == nil
	})
}

// TestZooKeeper_aShortSilenceCostsNothing, though a reservation runs out meanwhile and its node
// cannot be deleted in time: that must not cost the session, and all other reservations.
func TestZooKeeper_aShortSilenceCostsNothing(t *testing.T) {
	s := stage.New(t, locks.ZooKeeper)
	line := newLine(t, s.Addr())
	core, logged := observer.New(zap.InfoLevel)
	l := locks.OpenZooKeeper([]string{line.addr()}, stage.Timeout, "one", zap.New(core))
	t.Cleanup(l.Close)
	other := s.Open("other")
	raise(t, other, 1)
	stage.Until(t, "it has a session", func(ctx context.Context) bool { _, err := l.Epoch(ctx); return err == nil })
	kept := take(t, l, "kept", time.Hour)
	take(t, l, "short", time.Second)
	<-time.After(700 * time.Millisecond)
	line.set(stalls)
	// The silence: longer than it may take to give a lock up, much shorter than a session.
	<-time.After(1500 * time.Millisecond)
	line.set(open)
	stage.Until(t, "the short one is free", func(ctx context.Context) bool { return len(holders(t, other, "short")) == 0 })
	if held := holders(t, other, "kept"); held["kept"] != kept {
		t.Errorf("held: %v", held)
	}
	for _, entry := range logged.All() {
		if strings.Contains(entry.Message, "over") {
			t.Errorf("it said: %s, %v", entry.Message, entry.ContextMap())
		}
	}
}

// TestZooKeeper_inAnotherEpochNothingIsTried: after a new epoch has begun all customers come with
// the old one.
func TestZooKeeper_inAnotherEpochNothingIsTried(t *testing.T) {
	s := stage.New(t, locks.ZooKeeper)
	l := s.Open("one")
	raise(t, l, 2)
	if _, _, err := l.Take(t.Context(), "seat", 1, time.Hour); !errors.Is(err, locks.ErrEpoch) {
		t.Fatal(err)
	}
	sess, err := session.Dial(t.Context(), session.Options{Servers: strings.Split(s.Addr(), ","), Timeout: stage.Timeout})
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	if _, err := sess.Get(t.Context(), "/tickets/seats/seat"); !errors.Is(err, zk.ErrNoNode) {
		t.Errorf("a lock was tried: %v", err)
	}
}

func TestZooKeeper_closingFreesAtOnce(t *testing.T) {
	s := stage.New(t, locks.ZooKeeper)
	one, two := s.Open("one"), s.Open("two")
	raise(t, one, 1)
	take(t, one, "seat", time.Hour)
	one.Close()
	take(t, two, "seat", time.Hour)
}

func take(t *testing.T, l locks.Locks, ticket string, hold time.Duration) locks.Token {
	t.Helper()
	epoch, err := l.Epoch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := l.Take(t.Context(), ticket, epoch, hold)
	if err != nil {
		t.Fatalf("take %s: %v", ticket, err)
	}
	return token
}

func raise(t *testing.T, l locks.Locks, epoch int64) {
	t.Helper()
	if err := l.Raise(t.Context(), epoch); err != nil {
		t.Fatal(err)
	}
}

func holders(t *testing.T, l locks.Locks, tickets ...string) map[string]locks.Token {
	t.Helper()
	held, err := l.Holders(t.Context(), tickets)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// line is a way to a server that can be set to lose what is sent.
type line struct {
	listener net.Listener
	server   string
	mu       sync.Mutex
	changed  sync.Cond
	state    state
	conns    []net.Conn
}

func newLine(t *testing.T, server string) *line {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{listener: listener, server: server}
	l.changed.L = &l.mu
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { l.carry(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		l.mu.Lock()
		for _, c := range l.conns {
			c.Close()
		}
		l.mu.Unlock()
		all.Wait()
	})
	return l
}

func (l *line) addr() string { return l.listener.Addr().String() }

// state is what a line does.
type state int

const (
	open   state = iota
	dead         // all is lost, and nobody is told
	loses        // the server's next answer is lost
	breaks       // at the server's next answer the connection breaks
	stalls       // nothing goes on, and nothing is lost
)

func (l *line) set(s state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	l.changed.Broadcast()
}

func (l *line) carry(client net.Conn) {
	server, err := net.Dial("tcp", l.server)
	if err != nil {
		client.Close()
		return
	}
	l.mu.Lock()
	l.conns = append(l.conns, client, server)
	l.mu.Unlock()
	var both sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{client: server, server: client} {
		both.Go(func() {
			defer to.Close()
			io.Copy(&gate{l, to, from == server}, from)
		})
	}
	both.Wait()
}

// gate passes on what comes, as its line's state wants it.
type gate struct {
	*line
	to     net.Conn
	answer bool
}

func (g *gate) Write(b []byte) (int, error) {
	g.mu.Lock()
	for g.state == stalls {
		g.changed.Wait()
	}
	now := g.state
	if g.answer && (now == loses || now == breaks) {
		g.state = open
	}
	g.mu.Unlock()
	switch {
	case now == breaks && g.answer:
		return 0, io.ErrClosedPipe
	case now == dead, now == loses && g.answer:
		return len(b), nil
	}
	return g.to.Write(b)
}
