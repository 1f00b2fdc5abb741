package booking

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/stage"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/store"
)

// TestReserve_pausedUntilItsLockEnded: nobody else came meanwhile, so the token is still the
// newest; but whoever comes next gets the ticket. It must not be promised.
func TestReserve_pausedUntilItsLockEnded(t *testing.T) {
	each(t, time.Second, func(h *house) {
		slow, other := h.instance("slow"), h.instance("other")
		other.Hold = time.Minute
		h.pausedAt(slow, "reserve", func() { h.free(other, "ticket-1") })
		_, err := slow.Reserve(t.Context(), "ticket-1", "alice")
		h.refused(Lost, err)
		h.reserve(other, "ticket-1", "bob")
		h.fine(other.Book(t.Context(), "ticket-1", "bob"))
	})
}

// TestReserve_aLockThatTakesLongerThanItHolds is no reservation.
func TestReserve_aLockThatTakesLongerThanItHolds(t *testing.T) {
	each(t, late/2, func(h *house) {
		slow, other := h.instance("slow"), h.instance("other")
		other.Hold = time.Minute
		h.reserve(other, "ticket-3", "carol") // there is an epoch
		slow.Locks = slowly{slow.Locks}
		r, err := slow.Reserve(t.Context(), "ticket-1", "alice")
		if err == nil {
			t.Errorf("it holds for %v", r.Left)
		}
		h.refused(Lost, err)
	})
}

// postgres gives PostgreSQL itself, for what another process does there.
func postgres(t *testing.T) *sql.DB {
	url := os.Getenv("TICKETS_TEST_POSTGRES")
	if url == "" {
		t.Skip("TICKETS_TEST_POSTGRES names no PostgreSQL; with-services.sh starts one")
	}
	db, err := sql.Open("pgx", url+"?idle_in_transaction_session_timeout=3000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// TestReserve_waitsForTheRow: another instance is paused while it sells the ticket. What the
// write waits is not added to the reservation.
func TestReserve_waitsForTheRow(t *testing.T) {
	raw := postgres(t)
	each(t, 2*time.Second, func(h *house) {
		one, other := h.instance("one"), h.instance("other")
		other.Hold = time.Minute
		paused, err := raw.Begin()
		h.fine(err)
		_, err = paused.Exec(`UPDATE tickets SET client = client WHERE id = 'ticket-1'`)
		h.fine(err)
		_, err = one.Reserve(t.Context(), "ticket-1", "alice")
		h.refused(Expired, err)
		h.reserve(other, "ticket-1", "bob")
		h.fine(one.Book(t.Context(), "ticket-1", "bob"))
	})
}

// TestInit_waitsForSalesOfTheKindBefore: when it returns, that kind sells nothing any more.
func TestInit_waitsForSalesOfTheKindBefore(t *testing.T) {
	raw := postgres(t)
	db := stage.Store(t, locks.Redis, 10)
	h := &house{t, stage.New(t, locks.Redis), db, time.Minute}
	old := h.instance("old")
	h.reserve(old, "ticket-1", "alice")
	paused, err := raw.Begin()
	h.fine(err)
	_, err = paused.Exec(`UPDATE tickets SET client = client WHERE id = 'ticket-1'`)
	h.fine(err)
	done := make(chan error, 1)
	go func() { done <- old.Book(context.Background(), "ticket-1", "alice") }()
	stage.Until(t, "it waits for the row", func(ctx context.Context) bool {
		var waiting int
		err := raw.QueryRowContext(ctx, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'`).Scan(&waiting)
		return err == nil && waiting > 0
	})
	h.fine(db.Init(t.Context(), locks.ZooKeeper, nil))
	before, err := db.Sales(t.Context())
	h.fine(err)
	if err := <-done; err != nil && !errors.Is(err, ErrOtherType) {
		t.Errorf("it books: %v", err)
	}
	if after, err := db.Sales(t.Context()); err != nil || len(after) != len(before) {
		t.Errorf("after init it sold still: %v, then %v", before, after)
	}
}

// TestReserve_redisLostItsLastSecond: an instance has a lock, and has not written yet. Redis
// comes back without it, and without the number. Who comes next has the higher token.
func TestReserve_redisLostItsLastSecond(t *testing.T) {
	h := &house{t, stage.New(t, locks.Redis), stage.Store(t, locks.Redis, 5), time.Minute}
	slow, other := h.instance("slow"), h.instance("other")
	client := rawRedis(t, h)
	ctx := t.Context()
	h.reserve(other, "ticket-5", "carol")
	number, err := client.HGet(ctx, "{tickets}:state", "number").Result() // what is on its disk
	h.fine(err)
	h.reserve(other, "ticket-4", "carol")
	h.pausedAt(slow, "reserve", func() {
		h.fine(client.HSet(ctx, "{tickets}:state", "number", number).Err())
		h.fine(client.Del(ctx, "{tickets}:lock:ticket-1", "{tickets}:lock:ticket-4").Err())
		h.reserve(other, "ticket-1", "bob")
	})
	_, err = slow.Reserve(ctx, "ticket-1", "alice")
	h.refused(Lost, err)
	h.fine(other.Book(ctx, "ticket-1", "bob"))
}

func rawRedis(t *testing.T, h *house) *redis.Client {
	opts, err := redis.ParseURL(h.Addr())
	h.fine(err)
	client := redis.NewClient(opts)
	t.Cleanup(func() { client.Close() })
	return client
}

// TestReserve_othersWroteIntoTheLockService: sales go on.
func TestReserve_othersWroteIntoTheLockService(t *testing.T) {
	each(t, time.Minute, func(h *house) {
		s := h.instance("one")
		h.reserve(s, "ticket-1", "alice")
		h.fine(s.Locks.Raise(t.Context(), math.MaxInt64)) // more than an epoch can be
		h.reserve(s, "ticket-2", "alice")
		h.fine(s.Book(t.Context(), "ticket-2", "alice"))
		if h.Kind == locks.Redis {
			h.fine(rawRedis(t, h).HSet(t.Context(), "{tickets}:state", "number", "a word").Err())
			h.reserve(s, "ticket-3", "alice")
			h.fine(s.Book(t.Context(), "ticket-3", "alice"))
		}
	})
}

// TestCancel_besideHerOwnBook: she is not told that it is free when she has bought it.
func TestCancel_besideHerOwnBook(t *testing.T) {
	each(t, time.Minute, func(h *house) {
		one, other := h.instance("one"), h.instance("other")
		h.reserve(other, "ticket-1", "alice")
		one.Locks = looked{one.Locks, sync.OnceFunc(func() { h.fine(other.Book(t.Context(), "ticket-1", "alice")) })}
		h.refused(Booked, one.Cancel(t.Context(), "ticket-1", "alice"))
	})
}

// looked is locks after each look at which something happens.
type looked struct {
	locks.Locks
	then func()
}

func (l looked) Holders(ctx context.Context, tickets []string) (map[string]locks.Token, error) {
	held, err := l.Locks.Holders(ctx, tickets)
	l.then()
	return held, err
}

// TestReserve_initIsNotDone: the tables are there, and nothing in them.
func TestReserve_initIsNotDone(t *testing.T) {
	raw := postgres(t)
	h := &house{t, stage.New(t, locks.Redis), stage.Store(t, locks.Redis, 1), time.Minute}
	_, err := raw.Exec(`DELETE FROM service`)
	h.fine(err)
	if _, err := h.instance("one").Reserve(t.Context(), "ticket-1", "alice"); !errors.Is(err, store.ErrNotReady) {
		t.Errorf("it says %v", err)
	}
}
