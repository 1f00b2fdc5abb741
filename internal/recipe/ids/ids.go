// Package ids gives out the numbers 1 to Size, each to one holder at a time: names for
// identical containers, or the slots of a semaphore.
//
// In ZooKeeper, under a Pool's Dir:
//
//	<Dir>            JSON: the size on which all users agree
//	<Dir>/taken/<n>  ephemeral; JSON: who has the number n
//	<Dir>/waiting    a line (package queue) of those who wait while the pool is full
//
// Two nodes cannot have one name, so ZooKeeper itself sees to it that no number is given
// twice. Who waits joins the line; the first in it alone watches taken, and takes what
// comes free by a transaction that also gives its place up, so that the next moves to
// the front. A death thus wakes one waiter, however many there are, and its taking wakes
// one more, which does not hold up the handover.
//
// # What is promised
//
// A number is the lowest that was free, but for those that waiters before us are about to
// take. Waiters are served in the order in which they joined the line, and nobody who
// comes later has what a waiter could have: a number is taken out of turn only when more
// of them are free than wait before. It comes free when its holder closes it, or its
// session ends. So does a place in the line: while all are taken, a waiter that died
// holds up those behind it until then, or until Died tells.
//
// That two never believe to have one number at once is not promised, and can't be: a
// process may be paused, lose its session, and go on for a moment. Context tells of it,
// and Token, which rises with every holder of a number, is what to guard work with.
package ids

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// MaxSize is the size of the largest pool.
const MaxSize = 1024

var (
	// ErrFull says that all numbers are taken, or promised to those who wait.
	ErrFull = errors.New("all are taken")
	// ErrSize says that a pool is used with another size than this one's, or that the
	// size is none. Nothing was taken.
	ErrSize = errors.New("the sizes differ")
)

// Why a number could not be taken just now.
var (
	errRaced   = errors.New("another was faster")
	errResized = errors.New("the pool has another size meanwhile")
)

// Pool is a pool of numbers, seen through one session. It has no state: it may be made
// anew for each number, and used by several goroutines at once.
type Pool struct {
	Sess *session.Session
	Dir  string       // its node, which is made with all above it when it is missing
	Size int          // 1 to MaxSize
	Who  queue.Member // who takes numbers
	Log  *zap.Logger

	// Died is queue.Line's, for those who wait: it may be nil. A holder's number comes
	// free when its session ends.
	Died func(queue.Member) <-chan struct{}
}

// Take takes the lowest free number, and waits for one in the order of coming when there
// is none. When it fails, nothing is left behind, or the session is discarded and takes
// it along.
//
// The errors: ErrSize; queue.ErrLost when others removed our place in the line, or the
// number as soon as it was ours; the session's end; ctx's cause.
func (p *Pool) Take(ctx context.Context) (*ID, error) { return p.agreed(ctx, true) }

// Try takes the lowest free number, or fails at once with ErrFull when there is none that
// no waiter could have. Its other errors are Take's.
func (p *Pool) Try(ctx context.Context) (*ID, error) { return p.agreed(ctx, false) }

// agreed takes a number of a pool whose size is ours, and again when the size was changed
// meanwhile.
func (p *Pool) agreed(ctx context.Context, wait bool) (*ID, error) {
	for {
		version, err := p.agree(ctx)
		if err != nil {
			return nil, err
		}
		if id, err := p.take(ctx, version, wait); !errors.Is(err, errResized) {
			return id, err
		}
	}
}

func (p *Pool) taken() string   { return path.Join(p.Dir, "taken") }
func (p *Pool) waiting() string { return path.Join(p.Dir, "waiting") }

// take takes a number past the line if it can, for that costs one write, not two. Many
// who come at once meet at one number; the line tells the others which is whose. And when
// a server that lags behind says that all are taken, it knows better after we joined.
func (p *Pool) take(ctx context.Context, version int32, wait bool) (*ID, error) {
	id, err := p.attempt(ctx, version, nil)
	if !errors.Is(err, errRaced) && !errors.Is(err, ErrFull) {
		return id, err
	}
	line := &queue.Line{Sess: p.Sess, Dir: p.waiting(), Who: p.Who, Log: p.Log, Died: p.Died}
	place, err := line.Join(ctx)
	if err != nil {
		return nil, err
	}
	id, err = p.inLine(ctx, version, place, wait)
	if err != nil {
		place.GiveUp(err)
	}
	return id, err
}

// attempt takes the number that would be ours if all who wait before us were served now,
// and gives our place up with that; place is nil when we have none. The error is ErrFull
// when they leave none.
func (p *Pool) attempt(ctx context.Context, version int32, place *queue.Place) (*ID, error) {
	before, err := p.before(ctx, place)
	if err != nil {
		return nil, err
	}
	for {
		names, err := p.Sess.Children(ctx, p.taken())
		if err != nil {
			return nil, fmt.Errorf("list what is taken: %w", err)
		}
		waited := len(before)
		if waited > 0 { // some of whom may have been served before that list
			now, err := p.before(ctx, place)
			if err != nil {
				return nil, err
			}
			before = slices.DeleteFunc(before, func(name string) bool { return !slices.Contains(now, name) })
		}
		if len(before) < waited {
			continue
		}
		free := unused(names, p.Size)
		if len(free) <= waited {
			return nil, ErrFull
		}
		return p.claim(ctx, free[waited], version, place)
	}
}

// before lists who waits before us, everybody when place is nil.
func (p *Pool) before(ctx context.Context, place *queue.Place) ([]string, error) {
	names, err := p.Sess.Children(ctx, p.waiting())
	if err != nil {
		return nil, fmt.Errorf("list who waits: %w", err)
	}
	places := queue.Order(names)
	if place != nil {
		if i := slices.Index(places, place.Name()); i >= 0 {
			places = places[:i] // else our place is gone, and the transaction fails
		}
	}
	return places, nil
}

// inLine takes a number as soon as those before us leave one. Once we are the first that
// is so when any comes free.
func (p *Pool) inLine(ctx context.Context, version int32, place *queue.Place, wait bool) (*ID, error) {
	for {
		id, err := p.attempt(ctx, version, place)
		switch {
		case errors.Is(err, errRaced):
			continue
		case !errors.Is(err, ErrFull) || !wait:
			return id, err
		}
		after, err := place.Next(ctx)
		if err != nil {
			return nil, err
		}
		if after == 0 {
			return p.first(ctx, version, place)
		}
	}
}

// first takes the lowest free number for the first in the line, who alone watches for one.
func (p *Pool) first(ctx context.Context, version int32, place *queue.Place) (*ID, error) {
	guard, end := place.Guard()
	defer end(context.Canceled)
	for {
		names, node, err := p.Sess.WatchChildren(ctx, p.taken())
		if err != nil {
			return nil, fmt.Errorf("watch what is taken: %w", err)
		}
		if free := unused(names, p.Size); len(free) > 0 {
			id, err := p.claim(ctx, free[0], version, place)
			if !errors.Is(err, errRaced) {
				return id, err
			}
			continue
		}
		select {
		case <-node.Watch: // the next list says what it was
		case <-guard.Done():
			return nil, context.Cause(guard)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
