package filelock_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestAnEvictedHolderCannotCommit(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.member("a"), f.member("b")
	f.setHead("before")
	hold := a.hold()
	waits := b.waits(b.join())
	f.evict(f.placeOf("a"))
	is(t, "Confirm", hold.Confirm(), filelock.ErrLost)
	f.wantHold(waits, "before")
	next, err := tryCommit(t, hold, "fenced", true)
	is(t, "commit after evict", err, filelock.ErrLost)
	if next != nil || errors.Is(err, filelock.ErrUnknown) {
		t.Errorf("next %v, err %v", next, err)
	}
	is(t, "publish after evict", hold.Publish(background(t), beginning("fenced")), filelock.ErrLost)
	f.wantTurns()
	f.wantHead("before")
	f.wantAgents("b")
}

func TestEvictWhileTheHolderIsCutOffIsToldOnReconnect(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.member("a")
	hold := a.hold()
	a.proxy.Refuse(true)
	eventually(t, "it is cut off", func() bool { return !a.sess.Connected() })
	f.evict(f.placeOf("a"))
	a.proxy.Refuse(false)
	eventually(t, "it is connected again", a.sess.Connected)
	is(t, "Confirm", hold.Confirm(), filelock.ErrLost)
}

func TestTheFirstHeadIsGuardedToo(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	hold := f.member("a").hold()
	f.evict(f.placeOf("a"))
	is(t, "begin", begin(t, hold, "fenced"), filelock.ErrLost)
	is(t, "publish", hold.Publish(background(t), beginning("fenced")), filelock.ErrLost)
	f.wantHead("")
	f.wantTurns()
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
// head is read. The commit finds out.
func TestAPlaceRemovedWhileHeadIsReadCannotCommit(t *testing.T) {
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
	f.commit(hold, "one", false)
	got := f.get(waits)
	if got.err != nil {
		t.Fatal(got.err)
	}
	_, err := tryCommit(t, got.hold, "two", true)
	is(t, "commit", err, filelock.ErrLost)
	f.wantHead("one")
	f.wantTurns(0, 1)
	f.wantAgents("")
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
	eventually(t, "the session expires", func() bool { return a.sess.Err() != nil })
	_, err := tryCommit(t, hold, "late", false)
	is(t, "commit", err, session.ErrExpired)
	is(t, "Confirm", hold.Confirm(), session.ErrExpired)
	f.wantHold(waits, "")
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
	c.settledIn(seen, 2) // and has looked at head before
	f.wantWaiting(waits)
	f.commit(hold, "one", false)
	f.wantHold(waits, "one")
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
		b.settledIn(seen, 1)
	}
	f.wantWaiting(waits)
	is(t, "the holder, written into", hold.Confirm(), nil)
	f.commit(hold, "one", false)
	f.wantHold(waits, "one")
}

func TestACancelledWaitLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.member("a"), f.member("b")
	a.hold()
	why := errors.New("told to stop")
	ctx, stop := context.WithCancelCause(background(t))
	place := b.join()
	seen := b.sees(4)
	waits := b.waiting(ctx, place)
	b.settledIn(seen, 2)
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
	place := b.join()
	seen := b.sees(4)
	waits := b.waiting(ctx, place)
	b.settledIn(seen, 2)
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
