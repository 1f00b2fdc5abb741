// Package queue is a line in ZooKeeper: places that are taken, waited in, watched and
// given up. The file's lock and every recipe that has somebody wait his turn is built on
// it.
//
// A line is a persistent node; a place is an ephemeral sequential child of it, named
// <guid>-<sequence>, or <guid>-shared-<sequence> for one that may stand beside others of
// its kind. Whoever has nobody in its way has its turn. A waiter watches the nearest
// place in its way, so that one departure wakes one waiter; it never polls. It watches its
// own place too, unless the line is Unwatched: then its owner learns that the place is gone
// when it uses it, and not before. (The algorithm is that of ZooKeeper's own recipe, with
// the own place watched too:
// https://zookeeper.apache.org/doc/current/recipes.html.)
//
// # What is promised
//
// In a line that is watched, it is made sure after every wait that the place is still
// there: a waiter whose place was deleted never believes that it is its turn. In one that is
// Unwatched it may, and must use the place in a transaction that needs it. When Join or
// Wait fails, no place is left behind, or the session is discarded and takes it along.
// Nodes that are none of ours are ignored by all.
//
// That two never believe to have their turn at once is not promised, and can't be: a
// process may be paused between its last look and what it does. Token is what to guard
// the work itself with.
//
// The line's node must never be deleted while it is used: its creation counter gives the
// sequence.
package queue

import (
	"context"
	"errors"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/session"
)

var (
	// ErrLost says that our place is gone while we waited or held: evicted, or
	// removed with the session. Join again.
	ErrLost = errors.New("the place was lost")
	// ErrExhausted says that the line's counter has come to its end.
	ErrExhausted = errors.New("the queue's sequence numbers are used up (ZooKeeper counts to 2147483647): " +
		"stop all agents, delete the queue node, start them again; head and file stay as they are")
)

// Cleanup bounds what is done for good manners after the caller's context has
// ended. When it does not suffice the session is discarded.
const Cleanup = 700 * time.Millisecond

// Session is what a line needs of a ZooKeeper session, and no more: a
// *session.Session, or a simulated one. Each method promises what session.Session's
// of the same name promises.
type Session interface {
	ID() int64
	ACL() []zk.ACL
	Connections() uint64

	Context() context.Context
	Done() <-chan struct{}
	Err() error
	Discard(why string)

	Get(ctx context.Context, path string) (session.Node, error)
	Watch(ctx context.Context, path string) (session.Node, error)
	WatchFor(ctx context.Context, path string) (exists bool, watch <-chan zk.Event, err error)
	Children(ctx context.Context, path string) ([]string, error)

	Create(ctx context.Context, path string, data []byte, flags int32) (string, error)
	Delete(ctx context.Context, path string) error
	Multi(ctx context.Context, ops ...any) ([]zk.MultiResponse, error)
}

// Member is who has a place, for people to read.
type Member struct {
	Agent  string    `json:"agent"`
	Host   string    `json:"host"`
	BootID string    `json:"boot_id"`
	Since  time.Time `json:"since"` // by the member's own clock
	// Life is that by which those on the same machine notice the member's death;
	// empty when they cannot.
	Life string `json:"life,omitempty"`
	// Label is what its user says of it, for people.
	Label string `json:"label,omitempty"`
}

// Line is a line, seen through one session.
type Line struct {
	Sess Session
	Dir  string      // its node, which exists
	Who  Member      // who takes places
	Log  *zap.Logger // may be nil

	// Died gives a channel that is closed when a member of this machine has died, nil
	// when that cannot be known. It is asked about whoever is just before us, so that
	// we need not wait for that one's session to expire. It may be nil.
	Died func(Member) <-chan struct{}
	// Bury removes the place of a member that has died, whose node it is given, and
	// whatever else it left. Nil removes the place alone.
	Bury func(ctx context.Context, place string, node session.Node, m Member) error

	// Unwatched says that a place need not be watched while it waits: its owner makes
	// sure that it is there when it uses it, in the transaction that removes it. That
	// spares a read for each place. Guard and Recheck must not be used then. Nor do the
	// requests with which a place waits end with its context once they are sent, only the
	// waiting does: who can't wait for ZooKeeper's answer discards the session.
	Unwatched bool

	// Patience is for how long to try to give a place up, in place of Cleanup, through
	// connections that break. Set it where a session is worth more than a moment.
	Patience time.Duration

	card       []byte // what Card gives, once made
	lastCard   []byte // the card that was read last, of
	lastMember Member
}
