// Package barrier is a double barrier: a fixed number of members enter together and
// leave together. Nobody is left hanging by a member that dies or gives up: the round is
// broken then, and the others end with ErrBroken, which names who and why.
//
// In ZooKeeper, under the barrier's own directory, which stays:
//
//	<round>                    persistent; the round's state, JSON; the round's number is
//	                           the directory's version at the time
//	<round>/<guid>-<sequence>  ephemeral; a member
//	<round>/left-<guid>        persistent; the member with this GUID has left
//
// A round's state goes one way, by transactions on the version that was read:
//
//	open ──→ ready ──→ done
//	   └──────→┴──→ broken
//
// # Entering
//
// A member creates its node in a transaction that checks that the round is open; the first
// creates the round with it. Then it lists the members. Who finds the count full makes the
// round ready, in one transaction that names the members, checks that each of them is still
// there, and moves the directory on to the next round. So nobody gets in unless all were
// there at one moment: a member that dies at that moment either makes the transaction fail
// or is named in it. Whoever is not named came too late, and goes on to the next round.
//
// All wait for the round's node alone, so that an arrival wakes nobody but the first member,
// and ready wakes all. (That herd is what a barrier is for.) A death is noticed by a chain:
// each member watches the one before it, and the first the list. Whichever of them die, if
// one survives then either a survivor's predecessor has died, or the survivors are the
// first ones and the list tells. (Who was gone before anybody looked was never there.) A
// member that dies or gives up before all are there breaks the round: the others could
// wait for another in its stead, but then it would be their deadlines that tell of it.
//
// # Inside, and leaving
//
// The members' names are known now, and their chain is closed to a ring. Leaving is a
// marker beside the member's node, which stays until all have left: so the ring holds, and
// a departure wakes nobody. Who finds the markers complete makes the round done, which
// wakes all. A node that goes without its marker is a death; it breaks the round in a
// transaction that also creates and deletes the marker, and so is refused if it is there. If
// it is, the dead member had left, and whoever noticed watches the one before that, and
// counts again, because the dead one may have been about to.
//
// # Afterwards
//
// Each member removes its node, and the last the round. What a crash of all leaves is swept
// up by whoever opens a later round, and confuses nobody: a round is never opened twice.
//
// What can't be promised: that a member which is inside sees at once that the round is
// broken. Its context tells when it hears of it.
package barrier

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

var (
	// ErrBroken says that another member died or gave up, or that somebody meddled; it
	// wraps who and why. Enter again for the next round.
	ErrBroken = errors.New("the round was broken")
	// ErrSize says that another member waits here for another number; it wraps both.
	ErrSize = errors.New("the barrier's size is in dispute")
)

// MaxSize is the most members that a barrier takes: their nodes are named in one
// transaction, which must fit a packet.
const MaxSize = 1000

// Barrier is a member-to-be's view of a barrier. Sess, Dir, Size and Log are required.
type Barrier struct {
	Sess *session.Session
	Dir  string // its node, made if it is missing
	Size int    // how many enter together, 1 to MaxSize
	Who  queue.Member
	Log  *zap.Logger

	// Progress, if set, is told of how many are there, ourselves among them, by the
	// goroutine of Enter. Only the first to arrive learns of the later ones.
	Progress func(there int)
	// Died gives a channel that is closed when a member of this machine has died, nil
	// when that cannot be known; see queue.Line. It may be nil.
	Died func(queue.Member) <-chan struct{}
}

// Enter waits until Size members are there, ourselves among them. When it fails, nothing
// of ours is left behind, or the session is discarded; and unless it was ErrSize, the
// round is broken for all who waited with us.
//
// The errors: ErrBroken; ErrSize; queue.ErrLost when somebody removed our node; the
// session's end; ctx's cause.
func (b *Barrier) Enter(ctx context.Context) (*Inside, error) {
	if b.Size < 1 || b.Size > MaxSize {
		return nil, fmt.Errorf("barrier of size %d: give 1 to %d", b.Size, MaxSize)
	}
	for {
		r, err := b.arrive(ctx)
		if err != nil {
			return nil, fmt.Errorf("enter the barrier: %w", err)
		}
		in, err := r.gather(ctx)
		switch {
		case errors.Is(err, errLate):
			r.depart("", true)
		case err != nil:
			why := fmt.Sprintf("%s gave up: %v", label(b.Who), err)
			if errors.Is(err, queue.ErrLost) {
				why = label(b.Who) + " was removed"
			}
			r.depart(why, false)
			return nil, fmt.Errorf("enter the barrier: %w", err)
		default:
			return in, nil
		}
	}
}

// label is how a member is called in errors.
func label(who queue.Member) string {
	switch {
	case who.Agent == "":
		return "a member without a name"
	case who.Host == "":
		return who.Agent
	}
	return who.Agent + " on " + who.Host
}
