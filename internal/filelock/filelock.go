// Package filelock is the queue for the shared file and the hold on it: who waits,
// whose turn it is, how far the file is committed, and the one transaction that
// commits a turn, gives the lock up and takes the next place.
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
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/session"
)

var (
	// ErrLost says that our place is gone while we waited or held: evicted, or
	// removed with the session. Nothing was committed. Join again.
	ErrLost = errors.New("the turn was lost")
	// ErrUnknown says that a commit was sent and no answer came. It may have
	// happened. Settle it before the same records are written again.
	ErrUnknown = errors.New("the outcome of the commit is unknown")
	// ErrHalted says that the fleet is halted; it wraps the reason.
	ErrHalted = errors.New("the fleet is halted")
	// ErrExhausted says that the queue's counter has come to its end.
	ErrExhausted = errors.New("the queue's sequence numbers are used up (ZooKeeper counts to 2147483647): " +
		"stop all agents, delete the queue node, start them again; head and file stay as they are")
)

// cleanup bounds what is done for good manners after the caller's context has
// ended. When it does not suffice the session is discarded.
const cleanup = 700 * time.Millisecond

// Root is the fleet's node in ZooKeeper, an absolute path.
type Root string

// Queue, Head, Agents and Halt are the paths under the root.
func (r Root) Queue() string  { return path.Join(string(r), "queue") }
func (r Root) Head() string   { return path.Join(string(r), "head") }
func (r Root) Agents() string { return path.Join(string(r), "agents") }
func (r Root) Halt() string   { return path.Join(string(r), "halt") }

// Member is who has a place, for people to read.
type Member struct {
	Agent  string    `json:"agent"`
	Host   string    `json:"host"`
	BootID string    `json:"boot_id"`
	Since  time.Time `json:"since"` // by the member's own clock
}

// Queue is a fleet's queue, seen through one session.
type Queue struct {
	sess *session.Session
	root Root
	who  Member
	log  *zap.Logger

	mu   sync.Mutex
	halt <-chan zk.Event // tells of a halt; guarded by mu, as is
	seen uint64          // the connection on which it was set
}

// New gives the queue for who to take places in. log may be nil.
func New(sess *session.Session, root Root, who Member, log *zap.Logger) *Queue {
	if log == nil {
		log = zap.NewNop()
	}
	return &Queue{sess: sess, root: root, who: who, log: log}
}

// Ensure makes the fleet's nodes if they are missing.
func Ensure(ctx context.Context, sess *session.Session, root Root) error {
	for _, node := range []string{path.Dir(string(root)), string(root), root.Queue(), root.Agents()} {
		if err := ensure(ctx, sess, node); err != nil {
			return fmt.Errorf("create %s: %w", node, err)
		}
	}
	return nil
}

// ensure makes a persistent node. Repeating a create whose answer was lost is
// harmless here.
func ensure(ctx context.Context, sess *session.Session, node string) error {
	for {
		if _, err := sess.Get(ctx, node); !errors.Is(err, zk.ErrNoNode) {
			return err
		}
		_, err := sess.Create(ctx, node, nil, 0)
		switch {
		case err == nil || errors.Is(err, zk.ErrNodeExists):
			return nil
		case session.Definite(err) || over(ctx, sess):
			return err
		}
	}
}

// over tells whether there is no point in going on with this session.
func over(ctx context.Context, sess *session.Session) bool {
	return ctx.Err() != nil || sess.Err() != nil
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of strings and times
	}
	return data
}
