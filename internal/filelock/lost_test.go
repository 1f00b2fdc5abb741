package filelock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/session"
	"github.com/turnstile-fleet/turnstile/internal/zktest"
)

func TestEvictEndsTheHold(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.member("a"), f.member("b")
	f.setHead("before")
	hold := a.hold()
	waits := b.waits(b.join())
	f.evict(f.placeOf("a"))
	ends(t, hold.Context(), filelock.ErrLost)
	is(t, "Err", hold.Err(), filelock.ErrLost)
	is(t, "Confirm", hold.Confirm(), filelock.ErrLost)
	if got := f.get(waits); got.err != nil || string(got.hold.Head()) != "before" {
		t.Errorf("the next: %v", got.err)
	}
	next, err := hold.Commit(background(t), []byte("fenced"), true)
	is(t, "commit after evict", err, filelock.ErrLost)
	if next != nil || errors.Is(err, filelock.ErrUnknown) {
		t.Errorf("next %v, err %v", next, err)
	}
	is(t, "publish after evict", hold.Publish(background(t), []byte("fenced")), filelock.ErrLost)
	f.wantHead("before")
	f.wantAgents("b")
}

func TestEvictWhileTheHolderIsCutOffIsToldOnReconnect(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.member("a")
	hold := a.hold()
	a.proxy.Refuse(true)
	f.evict(f.placeOf("a"))
	a.proxy.Refuse(false)
	ends(t, hold.Context(), filelock.ErrLost)
}

func TestTheFirstHeadIsGuardedToo(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	hold := f.member("a").hold()
	f.evict(f.placeOf("a"))
	is(t, "publish", hold.Publish(background(t), []byte("fenced")), filelock.ErrLost)
	_, err := hold.Commit(background(t), []byte("fenced"), false)
	is(t, "commit", err, filelock.ErrLost)
	f.wantHead("")
}

// The queue's and the holder's places both go while we wait: we must not take the
// turn without one.
func TestAWaiterWithoutAPlaceDoesNotTakeTheTurn(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b, c := f.member("a"), f.member("b"), f.member("c")
	a.join()
	waits := b.waits(b.join())
	c.join()
	f.evict(f.placeOf("b"))
	f.evict(f.placeOf("a"))
	got := f.get(waits)
	is(t, "wait", got.err, filelock.ErrLost)
	if got.hold != nil {
		t.Error("a hold without a place")
	}
	f.wantAgents("c")
}

// The last moment: nobody is before us any more, and our own place goes just before
// head is read.
func TestAPlaceRemovedWhileHeadIsReadIsLost(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	hold, b := f.member("a").hold(), f.member("b")
	waits := b.waits(b.join())
	place := f.placeOf("b")
	var once sync.Once
	b.proxy.OnRequest(func(p []byte) bool {
		if zktest.Op(p) == zktest.OpGetData && bytes.HasSuffix(p[:len(p)-1], []byte("/head")) {
			once.Do(func() { f.evict(place) })
		}
		return true
	})
	f.commit(hold, fmt.Sprintf(`{"token":"0x%x"}`, hold.Token()), false)
	got := f.get(waits)
	is(t, "wait", got.err, filelock.ErrLost)
	if got.hold != nil {
		t.Error("a hold without a place")
	}
}

func TestAPlaceRemovedBeforeWaitIsLost(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.member("a")
	place := a.join()
	f.evict(f.placeOf("a"))
	_, err := place.Wait(background(t))
	is(t, "wait", err, filelock.ErrLost)
	a.hold() // and joining again works
}

func TestAHoldEndsWithItsSession(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.memberFor("a", 2*time.Second), f.member("b")
	hold := a.hold()
	waits := b.waits(b.join())
	a.proxy.HalfOpen(true)
	ends(t, hold.Context(), session.ErrExpired)
	is(t, "Err", hold.Err(), session.ErrExpired)
	if got := f.get(waits); got.err != nil {
		t.Errorf("the next: %v", got.err)
	}
}

func TestAHoldOutlivesAConnection(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.member("a")
	hold := a.hold()
	a.proxy.Cut()
	if err := hold.Confirm(); err != nil {
		t.Fatal(err)
	}
	f.commit(hold, "one", false)
	f.wantHead("one")
}

// Two lower places, and the nearer goes first: the other still has the turn.
func TestTheNearerPlaceGoesFirst(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b, c := f.member("a"), f.member("b"), f.member("c")
	hold := a.hold()
	b.join()
	waits := c.waits(c.join())
	seen := c.sees(4) // it watches again
	f.evict(f.placeOf("b"))
	c.settledIn(seen)
	select {
	case got := <-waits:
		t.Fatalf("took the turn of another: %v", got.err)
	default:
	}
	f.commit(hold, "one", false)
	if got := f.get(waits); got.err != nil || string(got.hold.Head()) != "one" {
		t.Errorf("then: %v", got.err)
	}
}

// The place ahead changes, and does not go.
func TestAChangeOfThePlaceAheadIsNotItsEnd(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.member("a"), f.member("b")
	hold := a.hold()
	waits := b.waits(b.join())
	for range 3 {
		seen := b.sees(4)
		f.touch(f.placeOf("a"))
		b.settledIn(seen)
	}
	select {
	case got := <-waits:
		t.Fatalf("took the turn of another: %v", got.err)
	default:
	}
	if hold.Err() != nil {
		t.Errorf("the holder, written into: %v", hold.Err())
	}
	f.commit(hold, "one", false)
	if got := f.get(waits); got.err != nil {
		t.Error(got.err)
	}
}

func TestACancelledWaitLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.member("a"), f.member("b")
	a.hold()
	why := errors.New("told to stop")
	ctx, stop := context.WithCancelCause(background(t))
	seen := b.sees(4)
	waits := b.waiting(ctx, b.join())
	b.settledIn(seen)
	stop(why)
	is(t, "wait", f.get(waits).err, why)
	f.wantAgents("a")
	_, err := b.Join(ctx)
	is(t, "join", err, why)
	f.wantAgents("a")
	if err := b.sess.Err(); err != nil {
		t.Errorf("the session was given up: %v", err)
	}
}

// While the line is dead nothing can be removed: the session goes and takes it along.
func TestACancelledWaitOnADeadLineGivesTheSessionUp(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.member("a"), f.memberFor("b", 4*time.Second)
	a.hold()
	ctx, stop := context.WithCancel(background(t))
	seen := b.sees(4)
	waits := b.waiting(ctx, b.join())
	b.settledIn(seen)
	b.proxy.HalfOpen(true)
	start := time.Now()
	stop()
	is(t, "wait", f.get(waits).err, context.Canceled)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	is(t, "session", b.sess.Err(), session.ErrExpired)
	eventually(t, "the place is gone", func() bool { return f.agents() == "a" })
}
