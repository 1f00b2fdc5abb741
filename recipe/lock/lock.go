// Package lock is locks by name: exclusive, shared (many readers or one writer), or for so
// many at once.
//
// In ZooKeeper, under a Lock's Dir:
//
//	<Dir>/line    a line (package queue) of those who have or want it, exclusive or shared
//	<Dir>/slots   a pool (package ids) of numbers, for so many at once
//
// One name is used in one of the two manners at a time. Who comes with the other is
// refused: each looks at the other's node after it has made its own, so that of two who
// come at the same moment at least one sees the other.
//
// # What is promised
//
// Locks are given in the order of asking; readers that stand side by side have it
// together. The departure of a holder wakes the one that is next, or all readers that
// are, and nobody else. When a function fails nothing is left behind, or the session is
// discarded and takes it along.
//
// What is held is known to be held until Context ends, and that ends before ZooKeeper can
// give the lock to another because of our silence. It is no promise that two never
// believe to hold it: a process may be paused between its last look and what it does, and
// whoever deletes a holder's node lets the next one go on at once. Token, which rises with
// every holder, is what to guard the work itself with.
package lock

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/ids"
	"github.com/turnstile-fleet/turnstile/session"
)

// Member is who takes a lock, as others see it. Agent and Host are for people.
type Member = queue.Member

var (
	// ErrLost is the cause when others removed our node: the lock is not ours any more.
	ErrLost = queue.ErrLost
	// ErrBusy says that others have the lock, or come before us.
	ErrBusy = errors.New("the lock is busy")
	// ErrMixed says that the name is in use as the other kind of lock: exclusive and
	// shared, or slots. Nothing was taken.
	ErrMixed = errors.New("the name is in use as another kind of lock")
	// ErrUpgrade says that the lock is wanted exclusively by one who has it shared, which
	// would wait for itself. Nothing was taken.
	ErrUpgrade = errors.New("a shared lock cannot become exclusive")
)

// Lock is a lock, seen through one session. It has no state: it may be used for any number
// of holds, by several goroutines at once.
type Lock struct {
	Sess *session.Session
	Dir  string // its node, which is made with all above it when it is missing
	Who  Member // who takes it
	Log  *zap.Logger

	// Died is queue.Line's; it may be nil. A slot whose holder has died comes free when
	// its session ends.
	Died func(Member) <-chan struct{}

	// Patience is for how long to try to give up an exclusive or shared lock, or a place in
	// its line, before the session is discarded, and all that it holds with it. 0 means 700 ms.
	// Calls may take so long then, whatever their context says.
	Patience time.Duration

	// Sweep has the last who gives up an exclusive or shared lock remove its nodes.
	Sweep bool
}

// Exclusive takes the lock for one alone, and waits for it.
//
// The errors: ErrMixed; ErrLost when others removed our place while we waited; the
// session's end; ctx's cause.
func (l *Lock) Exclusive(ctx context.Context) (*Held, error) { return l.take(ctx, false, false) }

// Shared takes the lock together with others that do, and waits for it. Its errors are
// Exclusive's.
func (l *Lock) Shared(ctx context.Context) (*Held, error) { return l.take(ctx, true, false) }

// TryExclusive is Exclusive, but fails at once with ErrBusy when others are before us: who
// has it, who waits, and who tries at the same moment.
func (l *Lock) TryExclusive(ctx context.Context) (*Held, error) { return l.take(ctx, false, true) }

// TryShared is Shared, but fails at once with ErrBusy.
func (l *Lock) TryShared(ctx context.Context) (*Held, error) { return l.take(ctx, true, true) }

func (l *Lock) take(ctx context.Context, shared, try bool) (*Held, error) {
	line := &queue.Line{Sess: l.Sess, Dir: lineDir(l.Dir), Who: l.Who, Log: l.Log, Died: l.Died, Patience: l.Patience}
	place, err := l.join(ctx, line, shared)
	if err != nil {
		return nil, err
	}
	if err := l.noSlots(ctx); err != nil {
		place.GiveUp(err)
		l.sweep()
		return nil, err
	}
	if try {
		first, err := place.Try(ctx)
		if err != nil {
			return nil, err
		}
		if !first {
			place.Leave()
			l.sweep()
			return nil, ErrBusy
		}
	} else if err := place.Wait(ctx); err != nil {
		l.sweep()
		return nil, err
	}
	held := &Held{token: place.Token(), where: path.Join(lineNode, place.Name()), leave: func() { place.Leave(); l.sweep() }}
	held.ctx, held.end = place.Guard()
	return held, nil
}

// join takes a place in the line, which whoever left last may remove at any time.
func (l *Lock) join(ctx context.Context, line *queue.Line, shared bool) (*queue.Place, error) {
	join := line.Join
	if shared {
		join = line.JoinShared
	}
	for {
		if err := queue.EnsurePath(ctx, l.Sess, line.Dir); err != nil && !errors.Is(err, zk.ErrNoNode) {
			return nil, err
		}
		if place, err := join(ctx); !errors.Is(err, zk.ErrNoNode) {
			return place, err
		}
	}
}

// sweep removes the lock's nodes, unless somebody is there. What it cannot remove stays, and
// does no harm.
func (l *Lock) sweep() {
	if !l.Sweep {
		return
	}
	ctx, cancel := context.WithTimeout(l.Sess.Context(), queue.Cleanup)
	defer cancel()
	if l.Sess.Delete(ctx, lineDir(l.Dir)) == nil {
		_ = l.Sess.Delete(ctx, l.Dir)
	}
}

// Remove removes the nodes of a lock that nobody has or awaits: ErrBusy when somebody does. It
// deletes no place, and so takes the lock from nobody who comes meanwhile.
func Remove(ctx context.Context, sess *session.Session, dir string) error {
	pool := slotsDir(dir)
	for _, node := range []string{lineDir(dir), path.Join(pool, takenNode), path.Join(pool, waitingNode), pool, dir} {
		switch err := sess.Delete(ctx, node); {
		case errors.Is(err, zk.ErrNotEmpty):
			return ErrBusy
		case err != nil && !errors.Is(err, zk.ErrNoNode):
			return err
		}
	}
	return nil
}

// Slot takes one of size slots, of which each is one holder's, and waits for it. The errors
// are Exclusive's, and ids.ErrSize when the lock is in use with another size.
func (l *Lock) Slot(ctx context.Context, size int) (*Held, error) {
	return l.slot(ctx, size, (*ids.Pool).Take)
}

// TrySlot is Slot, but fails at once with ErrBusy when there is none.
func (l *Lock) TrySlot(ctx context.Context, size int) (*Held, error) {
	return l.slot(ctx, size, (*ids.Pool).Try)
}

func (l *Lock) slot(ctx context.Context, size int, take func(*ids.Pool, context.Context) (*ids.ID, error)) (*Held, error) {
	pool := &ids.Pool{Sess: l.Sess, Dir: slotsDir(l.Dir), Size: size, Who: l.Who, Log: l.Log, Died: l.Died}
	id, err := take(pool, ctx)
	if errors.Is(err, ids.ErrFull) {
		return nil, ErrBusy
	}
	if err != nil {
		return nil, err
	}
	if err := l.noLine(ctx); err != nil {
		id.Close()
		return nil, err
	}
	held := &Held{
		token: id.Token(), slot: id.Number(), leave: id.Close,
		where: path.Join(slotsNode, takenNode, strconv.Itoa(id.Number())),
	}
	held.ctx, held.end = context.WithCancelCause(id.Context())
	return held, nil
}

// noSlots makes sure that nobody uses the name for slots. The caller has a place in the
// line already.
func (l *Lock) noSlots(ctx context.Context) error {
	usage, err := ids.Look(ctx, l.Sess, slotsDir(l.Dir))
	if err == nil && len(usage.Taken)+places(usage.Waiting) > 0 {
		err = fmt.Errorf("%w: %d at once; say so too (--slots %d), or give another name", ErrMixed, usage.Size, usage.Size)
	}
	return err
}

// noLine makes sure that nobody uses the name exclusively or shared. The caller has a slot
// already.
func (l *Lock) noLine(ctx context.Context) error {
	entries, err := queue.Look(ctx, l.Sess, lineDir(l.Dir))
	if err == nil && places(entries) > 0 {
		err = fmt.Errorf("%w: exclusive or shared; leave out --slots, or give another name", ErrMixed)
	}
	return err
}

func places(entries []queue.Entry) (n int) {
	for _, e := range entries {
		if !e.Foreign {
			n++
		}
	}
	return n
}

const (
	lineNode    = "line"
	slotsNode   = "slots"
	takenNode   = "taken" // as package ids has these two
	waitingNode = "waiting"
)

func lineDir(dir string) string  { return path.Join(dir, lineNode) }
func slotsDir(dir string) string { return path.Join(dir, slotsNode) }

// Held is a lock that is ours until Close, or until Context says otherwise.
type Held struct {
	token  uint64
	slot   int
	where  string
	leave  func()
	ctx    context.Context
	end    context.CancelCauseFunc
	closed sync.Once
}

// Token is the fencing token: higher than that of every earlier holder of the lock, or of
// the slot.
func (h *Held) Token() uint64 { return h.token }

// Slot is the slot's number, 1 to the size; 0 when the lock has none.
func (h *Held) Slot() int { return h.slot }

// Where is the node by which it is held, beneath the lock's. Under finds it again.
func (h *Held) Where() string { return h.where }

// Context is done when the lock is no longer ours: its cause is ErrLost when others
// removed our node, the session's when that is over, context.Canceled after Close.
func (h *Held) Context() context.Context { return h.ctx }

// Close gives the lock to who is next. It takes less than a second, or the lock's Patience,
// whatever ZooKeeper does; when that is too short the session is discarded, and takes the
// lock along when it expires. It may be called again.
func (h *Held) Close() {
	h.closed.Do(func() {
		h.end(context.Canceled)
		h.leave()
	})
}
