// Package booking reserves and sells tickets: the lock keeps customers out of each other's
// way, and the database decides.
package booking

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/store"
)

// ErrOtherType says that locks of another kind sell now: `tickets init` said so.
var ErrOtherType = errors.New("another kind of lock sells")

// Service is one instance. It has no state of its own: any instance books what another
// reserved. All methods may be called from several goroutines at once. Their errors are a
// *Refusal, or say that the database or the lock service did not do its part.
type Service struct {
	Locks    locks.Locks
	Store    *store.Store
	LockType string
	Hold     time.Duration // how long a reservation holds
	Log      *zap.Logger

	// paused is called before a lock, and between it and the write that relies on it: tests
	// stop there.
	paused func(what string)
}

// Reservation is a customer's hold on a ticket.
type Reservation struct {
	Ticket string
	Left   time.Duration // how much longer it holds
}

// tries is how often a reservation begins anew when the lock service has begun anew meanwhile.
const tries = 5

// Reserve reserves a ticket for a customer. Who has it already is told so, and how much longer;
// it does not hold longer for that.
func (s *Service) Reserve(ctx context.Context, ticket, client string) (Reservation, error) {
	if err := named(ticket, client); err != nil {
		return Reservation{}, err
	}
	for try := 1; ; try++ {
		again, r, err := s.reserve(ctx, ticket, client)
		if !again || try == tries {
			return r, err
		}
	}
}

func (s *Service) reserve(ctx context.Context, ticket, client string) (again bool, r Reservation, err error) {
	t, err := s.ticket(ctx, ticket)
	if err != nil {
		return false, r, err
	}
	if t.BookedBy != "" {
		return false, r, booked(t, client)
	}
	// To look costs less than to try and fail, which a thousand customers do at once.
	if r, err := s.stands(ctx, t, client); err != nil || r.Left > 0 {
		return false, r, err
	}
	s.pause("take")
	// In the epoch that was read together with the kind of lock: no token is of an epoch that
	// the database has not given yet, or has given to another kind.
	token, until, err := s.Locks.Take(ctx, ticket, t.Epoch, s.Hold)
	switch {
	case errors.Is(err, locks.ErrTaken):
		return s.taken(ctx, ticket, client)
	case errors.Is(err, locks.ErrEpoch):
		again, err = s.beginAnew(ctx, 0)
		return again, r, err
	case err != nil:
		return false, r, err
	}
	s.pause("reserve")
	err = s.Store.Reserve(ctx, ticket, client, token, t.Clock, until)
	left := time.Until(until)
	switch {
	case err == nil && left > 0:
		return false, Reservation{ticket, left}, nil
	case err == nil:
		err = refuse(Expired, "your reservation of %s has expired before you could be told: reserve it again", ticket)
	}
	if errors.Is(err, store.ErrStale) {
		again, err = s.stale(ctx, ticket, client, token)
	}
	s.free(ctx, ticket, token)
	return again, r, err
}

// taken tells what to say when somebody holds a ticket's lock: perhaps it is this customer.
func (s *Service) taken(ctx context.Context, ticket, client string) (again bool, r Reservation, err error) {
	t, err := s.ticket(ctx, ticket)
	if err != nil {
		return false, r, err
	}
	if t.BookedBy != "" {
		return false, r, booked(t, client)
	}
	if r, err = s.stands(ctx, t, client); err == nil && r.Left <= 0 {
		err = reserved(ticket)
	}
	return false, r, err
}

// stands gives a customer's own reservation if it still holds, an empty one when none holds, and
// refuses when somebody else's does.
func (s *Service) stands(ctx context.Context, t store.Ticket, client string) (Reservation, error) {
	if t.Left <= 0 {
		return Reservation{}, nil
	}
	holds, err := s.holds(ctx, t)
	switch {
	case err != nil || !holds:
		return Reservation{}, err
	case t.Client != client:
		return Reservation{}, reserved(t.ID)
	}
	return Reservation{t.ID, t.Left}, nil
}

// stale finds out why a reservation that had the lock changed nothing, and whether to begin
// anew.
func (s *Service) stale(ctx context.Context, ticket, client string, token locks.Token) (again bool, err error) {
	now, err := s.selling(ctx)
	if err != nil {
		return false, err
	}
	if token.Epoch != now.Epoch { // another began anew meanwhile, or the database is another one
		return s.beginAnew(ctx, 0)
	}
	t, err := s.ticket(ctx, ticket)
	if err != nil {
		return false, err
	}
	if t.BookedBy != "" {
		return false, booked(t, client)
	}
	held, err := s.Locks.Holders(ctx, []string{ticket})
	if err != nil {
		return false, err
	}
	if held[ticket] == token && !t.Token.Less(token) {
		// We have the lock, and yet its number is not the highest: the lock service went back
		// in time, and counts again what it counted before.
		return s.beginAnew(ctx, now.Epoch)
	}
	return false, refuse(Lost, "the lock of %s was lost before the reservation was written; try again", ticket)
}

// beginAnew makes database and lock service agree upon an epoch: the database's, or a new one
// when the lock service has none, has one that the database did not give, or that is bad. One
// instance at a time does so, and the others find it done. It tells to begin the request anew;
// its error is for one that has begun too often.
func (s *Service) beginAnew(ctx context.Context, bad int64) (again bool, _ error) {
	agreed, err := s.agreed(ctx, bad)
	switch {
	case err != nil:
		return false, err
	case agreed:
		return true, locks.ErrEpoch
	}
	now, err := s.Store.Anew(ctx, s.LockType, func(ctx context.Context, now int64) (int64, error) {
		has, err := s.Locks.Epoch(ctx)
		if err != nil {
			return 0, err
		}
		next := now
		if has == 0 || has > now || now <= bad {
			next = max(now, has) + 1
			s.Log.Info(fmt.Sprintf("the lock service is new, or was wiped: epoch %d begins, older reservations are lost", next))
		}
		return next, s.Locks.Raise(ctx, next)
	})
	if err == nil && now.LockType != s.LockType {
		err = s.other(now.LockType)
	}
	if err != nil {
		return false, err
	}
	return true, locks.ErrEpoch
}

// agreed tells whether another has done that meanwhile.
func (s *Service) agreed(ctx context.Context, bad int64) (bool, error) {
	now, err := s.selling(ctx)
	if err != nil {
		return false, err
	}
	has, err := s.Locks.Epoch(ctx)
	return err == nil && has == now.Epoch && has > bad, err
}

// Book sells a ticket to the customer who has reserved it. Who has bought it already is told
// so, and not charged again.
func (s *Service) Book(ctx context.Context, ticket, client string) error {
	if err := named(ticket, client); err != nil {
		return err
	}
	t, err := s.reserved(ctx, ticket, client)
	if err != nil {
		return err
	}
	if t.BookedBy != "" {
		return nil
	}
	s.pause("book")
	err = s.Store.Book(ctx, ticket, t.Token)
	if errors.Is(err, store.ErrStale) {
		return s.whyNot(ctx, ticket, client)
	}
	if err != nil {
		return err
	}
	s.free(ctx, ticket, t.Token)
	return nil
}

// Cancel ends a customer's own reservation: the ticket is there for others.
func (s *Service) Cancel(ctx context.Context, ticket, client string) error {
	if err := named(ticket, client); err != nil {
		return err
	}
	t, err := s.reserved(ctx, ticket, client)
	if err != nil {
		return err
	}
	if t.BookedBy != "" {
		return refuse(Booked, "%s is sold to you already", ticket)
	}
	err = s.Store.Cancel(ctx, ticket, t.Token)
	if !errors.Is(err, store.ErrStale) {
		s.free(ctx, ticket, t.Token) // though the answer was lost: perhaps it is done
		return err
	}
	if err = s.whyNot(ctx, ticket, client); err == nil {
		err = refuse(Booked, "%s is sold to you already", ticket)
	}
	return err
}

// reserved gives a ticket that a customer has reserved, or has bought; else a Refusal.
func (s *Service) reserved(ctx context.Context, ticket, client string) (store.Ticket, error) {
	t, err := s.ticket(ctx, ticket)
	switch {
	case err != nil:
		return t, err
	case t.BookedBy == client:
		return t, nil
	case t.BookedBy != "":
		return t, booked(t, client)
	case t.Client != client:
		return t, refuse(NotReserved, "%s is not reserved by you", ticket)
	case t.Left <= 0:
		return t, refuse(Expired, "your reservation of %s has expired: reserve it again", ticket)
	}
	holds, err := s.holds(ctx, t)
	if err == nil && !holds {
		err = refuse(Lost, "your reservation of %s was lost: its instance ended, the lock service was wiped, or init chose another LOCK_TYPE; reserve it again", ticket)
	}
	return t, err
}

// whyNot tells why a write that named a reservation's token changed nothing.
func (s *Service) whyNot(ctx context.Context, ticket, client string) error {
	t, err := s.ticket(ctx, ticket)
	switch {
	case err != nil:
		return err
	case t.BookedBy == client: // by another request of the customer's
		return nil
	case t.BookedBy != "":
		return booked(t, client)
	case t.Client == client && t.Left <= 0:
		return refuse(Expired, "your reservation of %s has expired: reserve it again", ticket)
	}
	return refuse(Lost, "your reservation of %s does not hold any more: reserve it again", ticket)
}

// holds tells whether a ticket's newest reservation is of this epoch, and its lock still held.
func (s *Service) holds(ctx context.Context, t store.Ticket) (bool, error) {
	if t.Token.Epoch != t.Epoch { // the database refuses it
		return false, nil
	}
	held, err := s.Locks.Holders(ctx, []string{t.ID})
	return held[t.ID] == t.Token, err
}

// Available lists the tickets that are there for anybody.
func (s *Service) Available(ctx context.Context) ([]string, error) {
	if _, err := s.selling(ctx); err != nil {
		return nil, err
	}
	unsold, err := s.Store.Unsold(ctx)
	if err != nil {
		return nil, err
	}
	held, err := s.Locks.Holders(ctx, unsold)
	if err != nil {
		return nil, err
	}
	available := []string{}
	for _, id := range unsold {
		if _, taken := held[id]; !taken {
			available = append(available, id)
		}
	}
	return available, nil
}

// State is a ticket as a customer sees it.
type State struct {
	Ticket string
	State  string        // available, reserved or booked
	Left   time.Duration // how much longer it is reserved, when it is
}

// State tells how it stands with a ticket.
func (s *Service) State(ctx context.Context, ticket string) (State, error) {
	if err := named(ticket, "-"); err != nil {
		return State{}, err
	}
	t, err := s.ticket(ctx, ticket)
	if err != nil {
		return State{}, err
	}
	if t.BookedBy != "" {
		return State{Ticket: ticket, State: "booked"}, nil
	}
	held, err := s.Locks.Holders(ctx, []string{ticket})
	if err != nil {
		return State{}, err
	}
	if _, taken := held[ticket]; !taken {
		return State{Ticket: ticket, State: "available"}, nil
	}
	return State{Ticket: ticket, State: "reserved", Left: max(t.Left, 0)}, nil
}

// Ready tells whether this instance can sell: database and lock service answer, and locks of
// this kind sell. A lock service that is new gets its epoch.
func (s *Service) Ready(ctx context.Context) error {
	if _, err := s.selling(ctx); err != nil {
		return err
	}
	epoch, err := s.Locks.Epoch(ctx)
	if err == nil && epoch == 0 {
		_, err = s.beginAnew(ctx, 0)
		if errors.Is(err, locks.ErrEpoch) {
			err = nil // it has one now
		}
	}
	return err
}

func (s *Service) selling(ctx context.Context) (store.Selling, error) {
	now, err := s.Store.Selling(ctx)
	if err == nil && now.LockType != s.LockType {
		err = s.other(now.LockType)
	}
	return now, err
}

func (s *Service) other(sells string) error {
	return fmt.Errorf("%w: this instance has LOCK_TYPE=%s, and the database says that %s sells; end this instance, or run `tickets init` with LOCK_TYPE=%s", ErrOtherType, s.LockType, sells, s.LockType)
}

func (s *Service) ticket(ctx context.Context, id string) (store.Ticket, error) {
	t, err := s.Store.Ticket(ctx, id)
	if errors.Is(err, store.ErrUnknown) {
		if _, err := s.selling(ctx); err != nil {
			return t, err
		}
		return t, refuse(Unknown, "there is no ticket %s; GET /available_tickets lists what there is", id)
	}
	if err == nil && t.LockType != s.LockType {
		err = s.other(t.LockType)
	}
	return t, err
}

// free frees a lock that is not needed any more. If it can't, the lock goes by itself.
func (s *Service) free(ctx context.Context, ticket string, t locks.Token) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := s.Locks.Free(ctx, ticket, t); err != nil {
		s.Log.Warn("a lock was not freed, it goes by itself", zap.String("ticket", ticket), zap.Error(err))
	}
}

func (s *Service) pause(what string) {
	if s.paused != nil {
		s.paused(what)
	}
}
