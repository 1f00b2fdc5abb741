// Package filelock is the lock of the shared file: a place in the queue for it (package
// queue), the hold on it when the turn has come, and the one transaction that commits a
// turn with its bytes, gives the lock up and takes the next place.
//
// In ZooKeeper, under a Root such as /turnstile/default:
//
//	queue-<k>/<guid>-<sequence>  ephemeral; who waits; the lowest sequence has the turn
//	head                         how far the file is committed (frame.Head)
//	turns/<incarnation>-<n>      a committed turn (frame.Turn), until it is known to be on
//	                             the volume's disk
//	agents/<name>                ephemeral; who is in the fleet (package fleet)
//
// # Why it is safe
//
// A turn is committed by a transaction that also deletes the holder's own place. A
// holder whose place is gone, because its session expired or somebody evicted it,
// cannot commit: the whole transaction fails. And once a place is seen to be gone,
// its commit has happened or never will. Everything else follows from these two
// sentences: any place may be removed at any time by anyone ([Evict]), an outcome
// that was lost with a connection can always be settled ([Queue.Settle]), and a lock
// that two processes believe to hold for a moment does no harm.
//
// The transaction carries the turn's bytes. So the file is written from what is
// committed, and every write by anybody at any time is right.
//
// # What it costs
//
// A contended cycle is one write (the transaction), one list and two reads; of these,
// one read lies between the predecessor's commit and our turn. A waiter watches its
// predecessor, so one commit wakes one agent, and it never polls.
//
// # Counters
//
// ZooKeeper counts a parent's sequence and a node's version in 32 bits. Before half of
// one is used, a holder deletes and creates head in its commit and names the next queue;
// who waits in the old one queues again.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/queue"
)

var (
	// ErrLost says that our place is gone while we waited or held: evicted, or
	// removed with the session. Nothing was committed. Join again.
	ErrLost = queue.ErrLost
	// ErrUnknown says that a commit was sent and no answer came. It may have
	// happened. Settle it before the same records are committed again.
	ErrUnknown = errors.New("the outcome of the commit is unknown")
	// ErrNoHead says that ZooKeeper has no head: no turn was ever committed, or it was
	// wiped.
	ErrNoHead = errors.New("ZooKeeper has no head")
	// ErrHead says that what stands as head cannot be read: another edition wrote it
	// (frame.ErrFormat), or it was altered.
	ErrHead = errors.New("head cannot be read")
)

// Root is the fleet's node in ZooKeeper, an absolute path without a slash at its end.
type Root string

// Head, Turns and Agents are the paths under the root.
func (r Root) Head() string   { return string(r) + "/head" }
func (r Root) Turns() string  { return string(r) + "/turns" }
func (r Root) Agents() string { return string(r) + "/agents" }

// Queue is the path of the line with the number k, from 1; head names the one in use.
func (r Root) Queue(k uint32) string { return fmt.Sprintf("%s/queue-%d", r, k) }

// Turn is the path of a turn's node.
func (r Root) Turn(incarnation uuid.UUID, n uint64) string {
	return r.Turns() + "/" + incarnation.String() + "-" + strconv.FormatUint(n, 10)
}

// Session is what the lock needs of a ZooKeeper session, Member who has a place, Entry
// a place as an onlooker sees it.
type (
	Session = queue.Session
	Member  = queue.Member
	Entry   = queue.Entry
)

// Queue is a fleet's queue, seen through one session.
type Queue struct {
	sess Session
	root Root
	who  Member
	died func(Member) <-chan struct{}
	log  *zap.Logger
	line *queue.Line // the one in use, as far as we know
	k    uint32      // its number, 0 before the first Join

	adopts bool // a head that cannot be read is no obstacle
}

// New gives the queue for who to take places in. died, which may be nil, is
// queue.Line's Died; log may be nil too.
func New(sess Session, root Root, who Member, died func(Member) <-chan struct{}, log *zap.Logger) *Queue {
	if log == nil {
		log = zap.NewNop()
	}
	return &Queue{sess: sess, root: root, who: who, died: died, log: log}
}

// NewAdopter is New for who adopts the file: a head that another edition wrote, or that
// was damaged, does not keep it from its turn. It queues in queue-1 then.
func NewAdopter(sess Session, root Root, who Member, log *zap.Logger) *Queue {
	q := New(sess, root, who, nil, log)
	q.adopts = true
	return q
}

// use makes the line with the number k the one to queue in.
func (q *Queue) use(k uint32) {
	if k != q.k {
		q.k, q.line = k, &queue.Line{Sess: q.sess, Dir: q.root.Queue(k), Who: q.who, Log: q.log, Died: q.died, Bury: q.bury, Unwatched: true}
	}
}

// Join takes the last place in the queue that head names. When it fails, no place is left
// behind, or the session is discarded and takes it along.
func (q *Queue) Join(ctx context.Context) (*Place, error) {
	if q.k == 0 {
		if err := q.follow(ctx); err != nil {
			return nil, err
		}
	}
	for {
		place, err := q.line.Join(ctx)
		k := q.k
		switch {
		case err == nil:
			return &Place{queue: q, k: k, Place: place}, nil
		case !errors.Is(err, zk.ErrNoNode) && !errors.Is(err, queue.ErrExhausted):
			return nil, err
		}
		if why := q.follow(ctx); why != nil {
			return nil, why
		}
		if errors.Is(err, queue.ErrExhausted) && q.k == k {
			return nil, err
		}
	}
}

// follow finds the line that head names, and makes it if it is missing.
func (q *Queue) follow(ctx context.Context) error {
	k, version, err := inUse(ctx, q.sess, q.root)
	if err != nil && !(q.adopts && version != noHead) {
		return err
	}
	q.use(k)
	return queue.Ensure(ctx, q.sess, q.root.Queue(k))
}

// InUse is the number of the line that head names, 1 when there is no head.
func InUse(ctx context.Context, sess Session, root Root) (uint32, error) {
	k, _, err := inUse(ctx, sess, root)
	return k, err
}

func inUse(ctx context.Context, sess Session, root Root) (k uint32, version int32, err error) {
	head, version, err := ReadHead(ctx, sess, root)
	if errors.Is(err, ErrNoHead) {
		err = nil
	}
	return max(head.Queue, 1), version, err
}

// Ensure makes the fleet's nodes if they are missing.
func Ensure(ctx context.Context, sess Session, root Root) error {
	for _, node := range []string{path.Dir(string(root)), string(root), root.Turns(), root.Agents()} {
		if err := queue.Ensure(ctx, sess, node); err != nil {
			return err
		}
	}
	return nil
}

// ReadHead reads head and its version, which is -1 unless there is one. The error is
// ErrNoHead, ErrHead with what is wrong with it, or that of the read.
func ReadHead(ctx context.Context, sess Session, root Root) (frame.Head, int32, error) {
	node, err := sess.Get(ctx, root.Head())
	if errors.Is(err, zk.ErrNoNode) {
		return frame.Head{}, noHead, ErrNoHead
	}
	if err != nil {
		return frame.Head{}, noHead, fmt.Errorf("read head: %w", err)
	}
	head, err := frame.ParseHead(node.Data)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrHead, err)
	}
	return head, node.Stat.Version, err
}

// FreshHead is ReadHead behind a quorum: it is no older than any head that was committed
// before the call.
func FreshHead(ctx context.Context, sess Session, root Root) (frame.Head, int32, error) {
	// That there is no such node is a quorum's answer too.
	if err := queue.Barrier(ctx, sess, root.Agents()); err != nil && !errors.Is(err, zk.ErrNoNode) {
		return frame.Head{}, noHead, fmt.Errorf("ask a quorum: %w", err)
	}
	return ReadHead(ctx, sess, root)
}

// Look lists the queue in order; the first that is not foreign has the turn.
// Foreign nodes come last.
func Look(ctx context.Context, sess Session, root Root) ([]Entry, error) {
	k, err := InUse(ctx, sess, root)
	if err != nil && !errors.Is(err, frame.ErrFormat) {
		return nil, err
	}
	return queue.Look(ctx, sess, root.Queue(k))
}

// Evict removes a place from the queue, whosever it is. That is always safe: its
// owner cannot commit any more. On a nil error it is gone.
func Evict(ctx context.Context, sess Session, root Root, place string) error {
	k, err := InUse(ctx, sess, root)
	if err != nil {
		return err
	}
	return queue.Evict(ctx, sess, root.Queue(k), place)
}

// baseOf is a path's last element.
func baseOf(node string) string { return node[strings.LastIndexByte(node, '/')+1:] }
