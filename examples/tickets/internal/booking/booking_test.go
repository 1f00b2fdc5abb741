package booking

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/stage"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/store"
)

// house is instances of the service on one database and one lock service.
type house struct {
	t *testing.T
	*stage.Stage
	db   *store.Store
	hold time.Duration
}

func each(t *testing.T, hold time.Duration, test func(*house)) {
	stage.Each(t, func(t *testing.T, s *stage.Stage) {
		test(&house{t, s, stage.Store(t, s.Kind, 10), hold})
	})
}

func (h *house) instance(name string) *Service {
	h.t.Helper()
	return &Service{Locks: h.Open(name), Store: h.db, LockType: h.Kind, Hold: h.hold, Log: zap.NewNop()}
}

func (h *house) fine(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) reserve(s *Service, ticket, client string) {
	h.t.Helper()
	_, err := s.Reserve(h.t.Context(), ticket, client)
	h.fine(err)
}

// refused wants a code; "" for success.
func (h *house) refused(want string, err error) {
	h.t.Helper()
	code := ""
	var r *Refusal
	switch {
	case errors.As(err, &r):
		code = r.Code
	case err != nil:
		h.t.Fatalf("want %s, came %v", want, err)
	}
	if code != want {
		h.t.Errorf("want %q, came %q: %v", want, code, err)
	}
}

func (h *house) sold(want map[string]string) {
	h.t.Helper()
	sales, err := h.db.Sales(h.t.Context())
	h.fine(err)
	got := map[string]string{}
	for _, s := range sales {
		got[s.Ticket] = s.Client
	}
	if len(sales) != len(want) || fmt.Sprint(got) != fmt.Sprint(want) {
		h.t.Errorf("sold %v, want %v", sales, want)
	}
}

func TestBook_whatAnotherInstanceReserved(t *testing.T) {
	each(t, time.Minute, func(h *house) {
		one, two := h.instance("one"), h.instance("two")
		ctx := t.Context()
		h.refused(NotReserved, two.Book(ctx, "ticket-1", "alice"))
		h.reserve(one, "ticket-1", "alice")
		r, err := two.Reserve(ctx, "ticket-1", "alice") // her answer was lost, and she asks again
		h.fine(err)
		if r.Left <= 0 || r.Left > time.Minute {
			h.t.Errorf("asked again, it holds for %v", r.Left)
		}
		_, err = two.Reserve(ctx, "ticket-1", "bob")
		h.refused(Reserved, err)
		h.refused(NotReserved, two.Book(ctx, "ticket-1", "bob"))
		h.refused(NotReserved, two.Cancel(ctx, "ticket-1", "bob"))
		free, err := two.Available(ctx)
		h.fine(err)
		if len(free) != 9 || free[0] != "ticket-2" || free[8] != "ticket-10" {
			h.t.Errorf("available: %v", free)
		}
		h.fine(two.Book(ctx, "ticket-1", "alice"))
		h.fine(one.Book(ctx, "ticket-1", "alice")) // her answer was lost, and she asks again
		h.refused(Booked, one.Book(ctx, "ticket-1", "bob"))
		_, err = one.Reserve(ctx, "ticket-1", "bob")
		h.refused(Booked, err)
		_, err = one.Reserve(ctx, "ticket-1", "alice")
		h.refused(Booked, err)
		_, err = one.Reserve(ctx, "ticket-11", "alice")
		h.refused(Unknown, err)
		h.sold(map[string]string{"ticket-1": "alice"})
	})
}

func TestCancel_theTicketIsThereForOthers(t *testing.T) {
	each(t, time.Minute, func(h *house) {
		one, two := h.instance("one"), h.instance("two")
		h.reserve(one, "ticket-1", "alice")
		h.fine(two.Cancel(t.Context(), "ticket-1", "alice"))
		h.refused(NotReserved, one.Book(t.Context(), "ticket-1", "alice"))
		h.reserve(two, "ticket-1", "bob")
		h.fine(one.Book(t.Context(), "ticket-1", "bob"))
		h.refused(Booked, one.Cancel(t.Context(), "ticket-1", "bob"))
		h.sold(map[string]string{"ticket-1": "bob"})
	})
}

func TestReserve_expires(t *testing.T) {
	each(t, 2*time.Second, func(h *house) {
		one, two := h.instance("one"), h.instance("two")
		h.reserve(one, "ticket-1", "alice")
		h.free(two, "ticket-1")
		stage.Until(h.t, "it has expired", func(ctx context.Context) bool {
			var r *Refusal
			return errors.As(two.Book(ctx, "ticket-1", "alice"), &r) && r.Code == Expired
		})
		h.reserve(two, "ticket-1", "bob")
		h.refused(NotReserved, one.Book(t.Context(), "ticket-1", "alice"))
		h.fine(one.Book(t.Context(), "ticket-1", "bob"))
		h.sold(map[string]string{"ticket-1": "bob"})
	})
}

// free waits until nobody holds a ticket.
func (h *house) free(s *Service, ticket string) {
	h.t.Helper()
	stage.Until(h.t, ticket+" is free", func(ctx context.Context) bool {
		held, err := s.Locks.Holders(ctx, []string{ticket})
		return err == nil && len(held) == 0
	})
}

// pausedAt stops an instance once, between its lock and its write, while something happens.
func (h *house) pausedAt(s *Service, where string, meanwhile func()) {
	once := sync.OnceFunc(meanwhile)
	s.paused = func(what string) {
		if what == where {
			once()
		}
	}
}

// TestReserve_pausedBeyondItsLock: an instance took a lock, and was paused before it wrote. The
// lock expired, and another customer has the ticket. Without the token in the database he would
// lose it. It fails when the token is left out of the SQL of Reserve.
func TestReserve_pausedBeyondItsLock(t *testing.T) {
	each(t, 2*time.Second, func(h *house) {
		slow, other := h.instance("slow"), h.instance("other")
		other.Hold = time.Minute
		h.pausedAt(slow, "reserve", func() {
			h.free(other, "ticket-1")
			h.reserve(other, "ticket-1", "bob")
		})
		_, err := slow.Reserve(t.Context(), "ticket-1", "alice")
		h.refused(Lost, err)
		h.refused(NotReserved, slow.Book(t.Context(), "ticket-1", "alice"))
		h.fine(other.Book(t.Context(), "ticket-1", "bob"))
		h.sold(map[string]string{"ticket-1": "bob"})
	})
}

// TestBook_pausedBeyondItsLock: an instance saw that a customer's reservation holds, and was
// paused before it wrote. Another customer has the ticket now. It fails when the token is left
// out of the SQL of Book: the ticket is sold then by a request of alice's, and bob pays.
func TestBook_pausedBeyondItsLock(t *testing.T) {
	each(t, 2*time.Second, func(h *house) {
		slow, other := h.instance("slow"), h.instance("other")
		other.Hold = time.Minute
		h.reserve(slow, "ticket-1", "alice")
		h.pausedAt(slow, "book", func() {
			h.free(other, "ticket-1")
			h.reserve(other, "ticket-1", "bob")
		})
		h.refused(Lost, slow.Book(t.Context(), "ticket-1", "alice"))
		h.sold(map[string]string{})
		h.fine(other.Book(t.Context(), "ticket-1", "bob"))
		h.sold(map[string]string{"ticket-1": "bob"})
	})
}

// TestBook_pausedWhileTheLockServiceIsWiped: what was reserved before is not sold after another
// epoch has begun, and sales go on.
func TestBook_pausedWhileTheLockServiceIsWiped(t *testing.T) {
	each(t, time.Minute, func(h *house) {
		slow, other := h.instance("slow"), h.instance("other")
		h.reserve(slow, "ticket-1", "alice")
		h.pausedAt(slow, "book", func() {
			h.Wipe()
			h.reserve(other, "ticket-2", "bob")
		})
		h.refused(Lost, slow.Book(t.Context(), "ticket-1", "alice"))
		h.reserve(other, "ticket-1", "carol")
		h.fine(slow.Book(t.Context(), "ticket-1", "carol"))
		h.fine(slow.Book(t.Context(), "ticket-2", "bob"))
		h.sold(map[string]string{"ticket-1": "carol", "ticket-2": "bob"})
	})
}

// TestReserve_pausedWhileTheLockServiceIsWiped: a lock of an epoch that is over makes no
// reservation. It is taken anew.
func TestReserve_pausedWhileTheLockServiceIsWiped(t *testing.T) {
	each(t, time.Minute, func(h *house) {
		slow, other := h.instance("slow"), h.instance("other")
		h.reserve(other, "ticket-3", "carol") // there is an epoch
		h.pausedAt(slow, "reserve", func() {
			h.Wipe()
			h.reserve(other, "ticket-2", "bob")
		})
		h.reserve(slow, "ticket-1", "alice")
		h.fine(other.Book(t.Context(), "ticket-1", "alice"))
		h.sold(map[string]string{"ticket-1": "alice"})
	})
}

// TestReserve_aLockServiceThatWentBackInTime counts again what it counted before: a restored
// Redis, one that lost its last second, another ensemble. Sales go on under a new epoch.
func TestReserve_aLockServiceThatWentBackInTime(t *testing.T) {
	each(t, time.Minute, func(h *house) {
		s := h.instance("one")
		h.reserve(s, "ticket-1", "alice")
		before, err := h.db.Selling(t.Context())
		h.fine(err)
		h.Wipe()
		h.fine(s.Locks.Raise(t.Context(), before.Epoch)) // as a copy of an hour ago has it
		// The database has seen a number that the lock service does not reach for a while.
		last := locks.Token{Epoch: before.Epoch, Number: math.MaxInt64 - 1}
		h.fine(stage.Reserve(t.Context(), h.db, "ticket-1", "alice", last))
		h.reserve(s, "ticket-1", "bob")
		h.fine(s.Book(t.Context(), "ticket-1", "bob"))
		now, err := h.db.Selling(t.Context())
		h.fine(err)
		if now.Epoch <= before.Epoch {
			h.t.Errorf("epochs %d, then %d", before.Epoch, now.Epoch)
		}
		h.sold(map[string]string{"ticket-1": "bob"})
	})
}

// TestReserve_theFirstCustomersComeAtOnce: the lock service has no epoch, all instances find that
// at once, and one of them gives it one. A second would take the first reservations away.
func TestReserve_theFirstCustomersComeAtOnce(t *testing.T) {
	each(t, time.Minute, func(h *house) {
		instances := []*Service{h.instance("one"), h.instance("two"), h.instance("three")}
		before, err := h.db.Selling(t.Context())
		h.fine(err)
		var all sync.WaitGroup
		for n := range 10 {
			ticket := fmt.Sprintf("ticket-%d", n+1)
			all.Go(func() {
				_, err := instances[n%3].Reserve(t.Context(), ticket, "alice")
				if err == nil {
					err = instances[(n+1)%3].Book(t.Context(), ticket, "alice")
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if now, err := h.db.Selling(t.Context()); err != nil || now.Epoch != before.Epoch+1 {
			t.Errorf("%+v, then %+v: %v", before, now, err)
		}
	})
}

// TestReserve_anotherDatabase: the lock service's epoch is higher than the database's.
func TestReserve_anotherDatabase(t *testing.T) {
	each(t, time.Minute, func(h *house) {
		s := h.instance("one")
		h.fine(s.Locks.Raise(t.Context(), 1000))
		h.reserve(s, "ticket-1", "alice")
		h.fine(s.Book(t.Context(), "ticket-1", "alice"))
		h.sold(map[string]string{"ticket-1": "alice"})
	})
}

// TestReserve_oneKindOfLockSells: from the moment that another kind is chosen, instances of the
// first sell nothing, and no reservation of theirs is worth anything.
func TestReserve_oneKindOfLockSells(t *testing.T) {
	db := stage.Store(t, locks.Redis, 10)
	redis := &house{t, stage.New(t, locks.Redis), db, time.Minute}
	zookeeper := &house{t, stage.New(t, locks.ZooKeeper), db, time.Minute}
	old, young := redis.instance("old"), zookeeper.instance("young")
	ctx := t.Context()
	if _, err := young.Reserve(ctx, "ticket-1", "bob"); !errors.Is(err, ErrOtherType) {
		t.Fatalf("before it was chosen: %v", err)
	}
	if err := young.Ready(ctx); !errors.Is(err, ErrOtherType) {
		t.Fatalf("it is ready: %v", err)
	}
	redis.reserve(old, "ticket-1", "alice")
	redis.reserve(old, "ticket-2", "alice")
	redis.pausedAt(old, "book", func() {
		redis.fine(db.Init(ctx, locks.ZooKeeper, nil))
		zookeeper.reserve(young, "ticket-2", "bob")
	})
	for _, ticket := range []string{"ticket-1", "ticket-2"} {
		if err := old.Book(ctx, ticket, "alice"); !errors.Is(err, ErrOtherType) {
			t.Errorf("%s: %v", ticket, err)
		}
	}
	if _, err := old.Reserve(ctx, "ticket-3", "alice"); !errors.Is(err, ErrOtherType) {
		t.Errorf("it reserves: %v", err)
	}
	zookeeper.refused(Lost, young.Book(ctx, "ticket-1", "alice"))
	zookeeper.fine(young.Book(ctx, "ticket-2", "bob"))
	zookeeper.sold(map[string]string{"ticket-2": "bob"})
}

// TestReserve_anOldKindWithAnEpochOfTheNewOne: an instance raised Redis's epoch, and ended before
// the database had it. The database gave the same epoch to ZooKeeper then. Whoever is left of the
// old kind does not get in with it.
func TestReserve_anOldKindWithAnEpochOfTheNewOne(t *testing.T) {
	db := stage.Store(t, locks.Redis, 10)
	redis := &house{t, stage.New(t, locks.Redis), db, time.Minute}
	zookeeper := &house{t, stage.New(t, locks.ZooKeeper), db, time.Minute}
	old, young := redis.instance("old"), zookeeper.instance("young")
	ctx := t.Context()
	redis.reserve(old, "ticket-1", "alice") // Redis has an epoch now
	redis.pausedAt(old, "take", func() {
		before, err := db.Selling(ctx)
		redis.fine(err)
		redis.fine(db.Init(ctx, locks.ZooKeeper, nil))
		zookeeper.reserve(young, "ticket-2", "bob")
		now, err := db.Selling(ctx)
		redis.fine(err)
		for range now.Epoch - before.Epoch {
			before.Epoch++
			redis.fine(old.Locks.Raise(ctx, before.Epoch))
		}
		for range 1000 { // and its number is high
			token, _, err := old.Locks.Take(ctx, "ticket-3", now.Epoch, time.Minute)
			redis.fine(err)
			redis.fine(old.Locks.Free(ctx, "ticket-3", token))
		}
	})
	if _, err := old.Reserve(ctx, "ticket-2", "carol"); !errors.Is(err, ErrOtherType) {
		t.Errorf("it reserves: %v", err)
	}
	zookeeper.fine(young.Book(ctx, "ticket-2", "bob"))
	zookeeper.sold(map[string]string{"ticket-2": "bob"})
}

// TestReserve_whatWasReservedBeforeAnEpochIsFree: the kind of lock was changed and changed back,
// and the old reservation's lock is still there. Who can't be booked can be reserved.
func TestReserve_whatWasReservedBeforeAnEpochIsFree(t *testing.T) {
	each(t, time.Minute, func(h *house) {
		one, two := h.instance("one"), h.instance("two")
		ctx := t.Context()
		h.reserve(one, "ticket-1", "alice")
		h.reserve(one, "ticket-2", "alice")
		for _, kind := range []string{locks.Redis, locks.ZooKeeper, h.Kind} {
			h.fine(h.db.Init(ctx, kind, nil))
		}
		h.refused(Lost, two.Book(ctx, "ticket-1", "alice"))
		h.refused(Lost, two.Cancel(ctx, "ticket-1", "alice"))
		h.reserve(two, "ticket-1", "bob")
		h.reserve(two, "ticket-2", "alice") // her own, too
		h.fine(one.Book(ctx, "ticket-1", "bob"))
		h.fine(one.Book(ctx, "ticket-2", "alice"))
		h.sold(map[string]string{"ticket-1": "bob", "ticket-2": "alice"})
	})
}

// TestReserve_noReservationIsLostToTheEpochThatItBegan: the lock service is wiped again and
// again while customers come to all instances. Nobody who has just reserved, and whom no wipe came
// after, is told that it was lost.
func TestReserve_noReservationIsLostToTheEpochThatItBegan(t *testing.T) {
	each(t, time.Minute, func(h *house) {
		instances := []*Service{h.instance("one"), h.instance("two"), h.instance("three")}
		for range 10 {
			h.Wipe()
			var all sync.WaitGroup
			for n := range 9 {
				ticket := fmt.Sprintf("ticket-%d", n+1)
				all.Go(func() {
					_, err := instances[n%3].Reserve(t.Context(), ticket, "alice")
					if err == nil {
						err = instances[(n+1)%3].Cancel(t.Context(), ticket, "alice")
					}
					if err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
	})
}

// TestReserve_holdsAsLongAsItsLock: what comes between the lock and the write is not added.
func TestReserve_holdsAsLongAsItsLock(t *testing.T) {
	each(t, time.Minute, func(h *house) {
		slow := h.instance("slow")
		slow.Locks = slowly{slow.Locks}
		r, err := slow.Reserve(t.Context(), "ticket-1", "alice")
		h.fine(err)
		ticket, err := h.db.Ticket(t.Context(), "ticket-1")
		h.fine(err)
		if most := time.Minute - late; r.Left > most || ticket.Left > most {
			t.Errorf("it holds for %v, in the database for %v; the lock for less than %v", r.Left, ticket.Left, most)
		}
	})
}

// slowly is locks whose answers come late.
type slowly struct{ locks.Locks }

const late = 300 * time.Millisecond

func (l slowly) Take(ctx context.Context, ticket string, epoch int64, hold time.Duration) (locks.Token, time.Time, error) {
	token, until, err := l.Locks.Take(ctx, ticket, epoch, hold)
	<-time.After(late)
	return token, until, err
}

// TestReserve_wipedUnderLoad: a hundred customers on ten tickets, and the lock service is wiped
// again and again. All tickets are sold, each once, and to whoever was told so.
func TestReserve_wipedUnderLoad(t *testing.T) {
	each(t, 2*time.Second, func(h *house) {
		instances := []*Service{h.instance("one"), h.instance("two"), h.instance("three")}
		ctx, cancel := context.WithTimeout(t.Context(), stage.Patience)
		defer cancel()
		told := map[string]string{}
		var mu sync.Mutex
		var customers, wiping sync.WaitGroup
		done := make(chan struct{})
		wiping.Go(func() {
			for range 5 {
				select {
				case <-time.After(100 * time.Millisecond):
					h.Wipe()
				case <-done:
					return
				}
			}
		})
		for n := range 100 {
			client := fmt.Sprintf("customer-%d", n)
			customers.Go(func() {
				pace := time.NewTicker(20 * time.Millisecond)
				defer pace.Stop()
				for ; ctx.Err() == nil; <-pace.C {
					s := instances[rand.IntN(3)]
					free, err := s.Available(ctx)
					unsold, err2 := h.db.Unsold(ctx)
					if err2 == nil && len(unsold) == 0 {
						return
					}
					if err != nil || len(free) == 0 {
						continue
					}
					ticket := free[rand.IntN(len(free))]
					if _, err := s.Reserve(ctx, ticket, client); err != nil {
						continue
					}
					if instances[rand.IntN(3)].Book(ctx, ticket, client) == nil {
						mu.Lock()
						told[ticket] = client
						mu.Unlock()
					}
				}
			})
		}
		customers.Wait()
		close(done)
		wiping.Wait()
		if len(told) != 10 {
			t.Errorf("%d tickets were sold, want 10", len(told))
		}
		h.sold(told)
	})
}

func TestNamed_refusesWhatIsNoName(t *testing.T) {
	for _, c := range []struct{ ticket, client string }{
		{"", "alice"}, {".", "alice"}, {"..", "alice"}, {"a/b", "alice"}, {"-a", "alice"}, {"tick et", "alice"}, {"é", "alice"},
		{strings.Repeat("a", 65), "alice"}, {"ticket-1", ""}, {"ticket-1", strings.Repeat("a", 129)}, {"ticket-1", "a\x00"},
		{"ticket-1", "a\nb"}, {"ticket-1", "\xff"}, {"ticket-1", "M\ufffdller"}, {"../../turnstile", "alice"},
	} {
		var r *Refusal
		if err := named(c.ticket, c.client); !errors.As(err, &r) || r.Code != BadName {
			t.Errorf("%q, %q: %v", c.ticket, c.client, err)
		}
	}
	for _, c := range []struct{ ticket, client string }{{"ticket-1", "alice"}, {"A.b_c-9", "Jürgen Müller <j@example.org>"}} {
		if err := named(c.ticket, c.client); err != nil {
			t.Errorf("%q, %q: %v", c.ticket, c.client, err)
		}
	}
}
