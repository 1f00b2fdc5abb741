// Package filelock is the lock of the shared file: a place in the queue for it (package
// queue), the hold on it when the turn has come, how far the file is committed, and the
// one transaction that commits a turn, gives the lock up and takes the next place.
//
// In ZooKeeper, under a Root such as /turnstile/default:
//
//	queue/<guid>-<sequence>  ephemeral; who waits; the lowest sequence has the turn
//	head                     how far the file is committed: JSON of the caller's, of
//	                         which this package reads "token", the committer's
//	agents/<name>            ephemeral; who is in the fleet (package fleet)
//	halt                     while it exists nobody writes
//
// # Why it is safe
//
// A turn is committed by a transaction that also deletes the holder's own place. A
// holder whose place is gone, because its session expired or somebody evicted it,
// cannot commit: the whole transaction fails. And once a place is seen to be gone,
// its commit has happened or never will. Everything else follows from these two
// sentences: any place may be removed at any time by anyone (Evict), an outcome
// that was lost with a connection can always be settled (Settle), and a lock that
// two processes believe to hold for a moment does no harm here. The volume has a
// guard of its own, package writer's fence.
//
// # What it costs
//
// A contended cycle is one write (the transaction), one list and three reads; of
// these, one read lies between the predecessor's commit and our turn. A waiter watches
// its predecessor and itself, so one commit wakes one agent, and it never polls.
//
// The queue node must never be deleted while agents run: its creation counter gives
// the sequence. ZooKeeper's counter ends at 2,147,483,647 places; see ErrExhausted.
package filelock

import (
	"context"
	"encoding/json"
	"errors"
	"path"
	"sync"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/queue"
)

var (
	// ErrLost says that our place is gone while we waited or held: evicted, or
	// removed with the session. Nothing was committed. Join again.
	ErrLost = queue.ErrLost
	// ErrUnknown says that a commit was sent and no answer came. It may have
	// happened. Settle it before the same records are written again.
	ErrUnknown = errors.New("the outcome of the commit is unknown")
	// ErrHalted says that the fleet is halted; it wraps the reason.
	ErrHalted = errors.New("the fleet is halted")
	// ErrExhausted says that the queue's counter has come to its end.
	ErrExhausted = queue.ErrExhausted
)

// Root is the fleet's node in ZooKeeper, an absolute path.
type Root string

// Queue, Head, Agents and Halt are the paths under the root.
func (r Root) Queue() string  { return path.Join(string(r), "queue") }
func (r Root) Head() string   { return path.Join(string(r), "head") }
func (r Root) Agents() string { return path.Join(string(r), "agents") }
func (r Root) Halt() string   { return path.Join(string(r), "halt") }

// Session is what the lock needs of a ZooKeeper session, Member who has a place, Entry
// a place as an onlooker sees it.
type (
	Session = queue.Session
	Member  = queue.Member
	Entry   = queue.Entry
)

// Queue is a fleet's queue, seen through one session.
type Queue struct {
	line *queue.Line
	sess Session
	root Root

	mu   sync.Mutex
	halt <-chan zk.Event // tells of a halt; guarded by mu, as is
	seen uint64          // the connection on which it was set
}

// New gives the queue for who to take places in. died, which may be nil, is
// queue.Line's Died; log may be nil too.
func New(sess Session, root Root, who Member, died func(Member) <-chan struct{}, log *zap.Logger) *Queue {
	if log == nil {
		log = zap.NewNop()
	}
	q := &Queue{sess: sess, root: root}
	q.line = &queue.Line{Sess: sess, Dir: root.Queue(), Who: who, Log: log, Died: died, Bury: q.bury}
	return q
}

// Join takes the last place in the queue. When it fails, no place is left behind,
// or the session is discarded and takes it along.
func (q *Queue) Join(ctx context.Context) (*Place, error) {
	place, err := q.line.Join(ctx)
	if err != nil {
		return nil, err
	}
	return &Place{queue: q, Place: place}, nil
}

// Ensure makes the fleet's nodes if they are missing.
func Ensure(ctx context.Context, sess Session, root Root) error {
	for _, node := range []string{path.Dir(string(root)), string(root), root.Queue(), root.Agents()} {
		if err := queue.Ensure(ctx, sess, node); err != nil {
			return err
		}
	}
	return nil
}

// Look lists the queue in order; the first that is not foreign has the turn.
// Foreign nodes come last.
func Look(ctx context.Context, sess Session, root Root) ([]Entry, error) {
	return queue.Look(ctx, sess, root.Queue())
}

// Evict removes a place from the queue, whosever it is. That is always safe: its
// owner cannot commit any more. On a nil error it is gone.
func Evict(ctx context.Context, sess Session, root Root, place string) error {
	return queue.Evict(ctx, sess, root.Queue(), place)
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of strings and times
	}
	return data
}
