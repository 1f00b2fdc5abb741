package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// Status is what ZooKeeper knows of a fleet at one moment, more or less: it is put
// together from several reads.
type Status struct {
	Fleet   string      `json:"fleet"`
	Head    *frame.Head `json:"head"`    // null before the fleet began its file
	Turns   Unwritten   `json:"turns"`   // committed, and not known to be on the disk
	Holder  *Waiter     `json:"holder"`  // who has the turn
	Waiting []Waiter    `json:"waiting"` // in the order of their turns
	Agents  []Enrolled  `json:"agents"`
	Foreign []string    `json:"foreign"` // nodes in the queue that are no places
	At      time.Time   `json:"at"`
}

// Waiter is a place in the queue.
type Waiter struct {
	Agent   string      `json:"agent"`
	Host    string      `json:"host"`
	BootID  string      `json:"boot_id"`
	Since   time.Time   `json:"since"` // it has been in the queue, by ZooKeeper's clock
	Place   string      `json:"place"`
	Token   frame.Token `json:"token"`
	Session string      `json:"session"`
}

// Enrolled is an agent of the fleet.
type Enrolled struct {
	filelock.Member
	Held      string     `json:"held,omitempty"`       // what holds it up
	HeldSince *time.Time `json:"held_since,omitempty"` // by its own clock
}

// Unwritten is how many committed turns have a node, and the oldest of them.
type Unwritten struct {
	Count   int        `json:"unwritten"`
	Oldest  uint64     `json:"oldest,omitempty"` // its number
	Agent   string     `json:"agent,omitempty"`  // whose it is
	Since   *time.Time `json:"since,omitempty"`  // by its agent's clock
	Trouble string     `json:"trouble,omitempty"`
}

// Look asks for the status of the fleet called name. The error says which part
// could not be read; a fleet that never was is an empty status.
func Look(ctx context.Context, sess filelock.Session, root filelock.Root, name string) (Status, error) {
	s := Status{Fleet: name, Waiting: []Waiter{}, Agents: []Enrolled{}, Foreign: []string{}, At: time.Now().UTC()}
	entries, err := filelock.Look(ctx, sess, root)
	if err != nil {
		return s, err
	}
	for _, e := range entries {
		w := Waiter{
			Agent: e.Agent, Host: e.Host, BootID: e.BootID, Since: e.Since, Place: e.Place,
			Token: frame.Token(e.Token), Session: fmt.Sprintf("0x%x", e.Session),
		}
		switch {
		case e.Foreign:
			s.Foreign = append(s.Foreign, e.Place)
		case s.Holder == nil:
			s.Holder = &w
		default:
			s.Waiting = append(s.Waiting, w)
		}
	}
	all, err := members(ctx, sess, root)
	if err != nil {
		return s, err
	}
	for _, m := range all {
		s.Agents = append(s.Agents, enrolled(m))
	}
	if s.Head, err = Head(ctx, sess, root); err != nil || s.Head == nil {
		return s, err
	}
	s.Turns, err = unwritten(ctx, sess, root, *s.Head)
	return s, err
}

func enrolled(m member) Enrolled {
	return Enrolled{Member: m.Member, Held: m.Held, HeldSince: m.HeldSince}
}

// unwritten counts the nodes of the turns that head knows, and reads the oldest.
func unwritten(ctx context.Context, sess filelock.Session, root filelock.Root, head frame.Head) (u Unwritten, err error) {
	names, err := filelock.ListTurns(ctx, sess, root)
	if err != nil {
		return u, err
	}
	for _, n := range names {
		if n.Incarnation != head.Incarnation || n.Number == 0 || n.Number > head.Turn {
			continue
		}
		if u.Count++; u.Oldest != 0 {
			continue
		}
		turn, err := filelock.ReadTurn(ctx, sess, root, n)
		var altered *filelock.TurnError
		switch {
		case errors.Is(err, filelock.ErrNoTurn): // it was written meanwhile
			u.Count--
		case errors.As(err, &altered):
			u.Oldest, u.Trouble = n.Number, altered.Error()
		case err != nil:
			return u, err
		default:
			u.Oldest, u.Agent, u.Since = n.Number, turn.Header.Agent, &turn.Header.At
		}
	}
	return u, nil
}

// Head reads how far the fleet's file is committed; nil when there is no head.
func Head(ctx context.Context, sess filelock.Session, root filelock.Root) (*frame.Head, error) {
	head, _, err := filelock.ReadHead(ctx, sess, root)
	if errors.Is(err, filelock.ErrNoHead) {
		return nil, nil
	}
	return &head, err
}
