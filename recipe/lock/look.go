package lock

import (
	"context"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/ids"
	"github.com/turnstile-fleet/turnstile/session"
)

// State is a lock as an onlooker sees it.
type State struct {
	Kind    Kind          // how it is had; Exclusive when nobody has it
	Slots   int           // how many, for the kind of that name
	Holders []Holder      // who has it
	Waiting []queue.Entry // who waits, in order
	Foreign []queue.Entry // nodes that are none of ours, and ignored
}

// Holder is one who has the lock.
type Holder struct {
	queue.Entry
	Slot int // its number; 0 when the lock has none
}

// Look tells who has the lock at dir and who waits. One that is not there is had by
// nobody.
func Look(ctx context.Context, sess *session.Session, dir string) (State, error) {
	s := State{Kind: Exclusive}
	entries, err := queue.Look(ctx, sess, lineDir(dir))
	if err != nil {
		return s, err
	}
	holds := queue.Holds(entries)
	for i, e := range entries {
		if i < holds {
			s.Holders = append(s.Holders, Holder{Entry: e})
			if e.Shared {
				s.Kind = Shared
			}
		} else {
			s.wait(e)
		}
	}
	usage, err := ids.Look(ctx, sess, slotsDir(dir))
	if err != nil {
		return s, err
	}
	if places(entries) == 0 && len(usage.Taken)+places(usage.Waiting) > 0 {
		s.Kind, s.Slots = Slots, usage.Size
	}
	for _, e := range usage.Taken {
		entry := queue.Entry{Member: e.Member, Token: e.Token, Session: e.Session, Since: e.Since}
		s.Holders = append(s.Holders, Holder{Entry: entry, Slot: e.Number})
	}
	for _, e := range usage.Waiting {
		s.wait(e)
	}
	return s, nil
}

func (s *State) wait(e queue.Entry) {
	if e.Foreign {
		s.Foreign = append(s.Foreign, e)
	} else {
		s.Waiting = append(s.Waiting, e)
	}
}

// Evict takes an exclusive or shared lock away from whoever has or awaits it at a place, as
// State tells them. Its holder learns of it by ErrLost. On a nil error the place is gone; it
// may have been before.
func Evict(ctx context.Context, sess *session.Session, dir, place string) error {
	return queue.Evict(ctx, sess, lineDir(dir), place)
}
