package filelock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// Hold is our turn: what an agent has from the moment when its place is the first
// until it commits, releases or loses it.
type Hold struct {
	place *Place
	head  frame.Head
	at    int32 // head's version; noHead when there is none

	nextID string   // of the place that the commit takes, to be found again
	kept   []string // nodes that the commit was to delete and did not
}

const noHead = -1

// half of what ZooKeeper's counters hold: before it is used, the fleet moves on to new
// ones. A variable, so that a test need not commit a thousand million turns.
var half int32 = math.MaxInt32 / 2

// mostDrops is how many turn nodes one commit deletes at most.
const mostDrops = 64

// follows tells whether head was committed by the holder of token. If that was the
// place just before ours, it is our turn, and head is the newest: it could only
// commit when nobody was before it, and nobody can after it but us. That needs no
// second list, and no trust in the server that we read from being up to date.
func (h *Hold) follows(token uint64) bool {
	return h.at != noHead && h.head.Token == frame.Token(token)
}

// Token is the fencing token: the place's creation zxid, higher than that of
// every earlier turn.
func (h *Hold) Token() frame.Token { return frame.Token(h.place.Token()) }

// Head is head as it was committed last; ok is false when there is none.
func (h *Hold) Head() (head frame.Head, ok bool) { return h.head, h.at != noHead }

// Version is the version of head that was read, which it must have when it is changed; -1
// when there is none.
func (h *Hold) Version() int32 { return h.at }

// Connection is the session's connection on which a commit of this hold is answered.
func (h *Hold) Connection() uint64 { return h.place.queue.sess.Connections() }

// Confirm asks a quorum of ZooKeeper whether our place is still there: nil, and nobody
// else can have a later turn; ErrLost, or the reason why it could not be asked.
func (h *Hold) Confirm() error {
	sess := h.place.queue.sess
	ctx, cancel := context.WithTimeout(sess.Context(), queue.Cleanup)
	defer cancel()
	err := queue.Barrier(ctx, sess, h.place.Path())
	if errors.Is(err, zk.ErrNoNode) {
		return ErrLost
	}
	return err
}

// Begin creates head and the node of the turn 0, which begins a new file, and keeps the
// turn. Like Commit it fails as a whole when our place is gone.
func (h *Hold) Begin(ctx context.Context, head frame.Head, first frame.Turn) error {
	return h.publish(ctx, head, h.createTurn(first))
}

// Publish makes head what the caller says, at the version that was read, and keeps the
// turn. It is how adoption begins a new incarnation. The head must not name our token:
// whoever reads it would take it for our commit, the last thing that we do.
func (h *Hold) Publish(ctx context.Context, head frame.Head) error { return h.publish(ctx, head) }

func (h *Hold) publish(ctx context.Context, head frame.Head, with ...any) error {
	if head.Token == h.Token() {
		return errors.New("publish head: it names our token, as only our commit may")
	}
	head.Queue = h.place.k // an adoption does not move the fleet to another queue
	ops := append([]any{&zk.CheckVersionRequest{Path: h.place.Path(), Version: -1}, h.setHead(head)}, with...)
	if _, err := h.transact(ctx, ops, span{}, len(ops)); err != nil {
		return fmt.Errorf("publish head: %w", err)
	}
	h.head, h.at = head, h.at+1 // a created node has version 0
	return nil
}

// Commit is what a turn's transaction does.
type Commit struct {
	Turn  frame.Turn
	Again bool     // take the next place too
	With  []any    // more operations: they happen with the commit or not at all
	Drop  []string // nodes of turns that we have written and synced: they may go
}

// RefusedError says that an operation of Commit.With was refused, and with it the whole
// commit. The turn goes on: commit again, without it.
type RefusedError struct {
	At  int // which, from 0
	Err error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the commit's operation %d: %v", e.At+1, e.Err)
}
func (e *RefusedError) Unwrap() error { return e.Err }

// Commit commits a turn with its bytes, gives the turn up, and takes the next place when
// that is wanted, all in one transaction. On a nil error the turn is committed for good
// and the hold has ended; next is nil unless Again was set.
//
// A *RefusedError leaves the turn as it was. ErrLost: nothing was committed, nor ever
// will be. A *NodeError or a *TurnError is that too, and would come again: it needs a
// person. ErrUnknown: see Settle; the hold has ended all the same.
func (h *Hold) Commit(ctx context.Context, c Commit) (next *Place, err error) {
	if h.rolls() {
		q := h.place.queue
		if err := queue.Ensure(ctx, q.sess, q.root.Queue(h.place.k+1)); err != nil {
			h.place.Leave() // nothing was sent
			if denied(err) {
				return nil, &NodeError{Node: q.root.Queue(h.place.k + 1), Err: err, Next: nextDenied}
			}
			return nil, fmt.Errorf("%w: make the next queue: %w", ErrLost, err)
		}
	}
	ops, fixed := h.compose(c)
	h.place.Leaving()
	own := span{h.before(), h.before() + len(c.With)}
	results, err := h.transact(ctx, ops, own, fixed)
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		return nil, err
	case err != nil && !errors.Is(err, ErrUnknown):
		h.place.Leave() // for it may not have been our place that was refused
	}
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return h.next(c, results)
}

// compose makes the transaction. The operations from fixed on only tidy up: without them
// it is the same commit.
func (h *Hold) compose(c Commit) (ops []any, fixed int) {
	q := h.place.queue
	head := h.head.After(c.Turn.Header, len(c.Turn.Bytes))
	// Deleting our own place is the check: it fails, and all with it, when we were fenced
	// off. It comes first, so that this, and nothing else, is then the reason that we are
	// told. Head's version is belt beside braces.
	ops = append(ops, &zk.DeleteRequest{Path: h.place.Path(), Version: -1})
	if h.rolls() {
		head.Queue++
		ops = append(ops, &zk.DeleteRequest{Path: q.root.Head(), Version: h.at},
			&zk.CreateRequest{Path: q.root.Head(), Data: head.Encode(), Acl: q.sess.ACL()})
	} else {
		ops = append(ops, h.setHead(head))
	}
	ops = append(ops, h.createTurn(c.Turn))
	ops = append(ops, c.With...)
	if c.Again {
		h.nextID = queue.NewID()
		ops = append(ops, &zk.CreateRequest{
			Path: path.Join(q.root.Queue(head.Queue), h.nextID) + "-", Data: q.line.Card(), Acl: q.sess.ACL(),
			Flags: zk.FlagEphemeral | zk.FlagSequence,
		})
	}
	fixed = len(ops)
	for _, node := range c.Drop[:min(len(c.Drop), mostDrops)] {
		ops = append(ops, &zk.DeleteRequest{Path: node, Version: -1})
	}
	return ops, fixed
}

// rolls tells whether a counter of ZooKeeper's is half used.
func (h *Hold) rolls() bool { return h.at >= half || h.place.Sequence() >= half }

// before is how many operations come before the caller's own.
func (h *Hold) before() int {
	if h.rolls() {
		return 4
	}
	return 3
}

// next adopts the place that the commit took. Every operation of a transaction has the
// same zxid, so that head's is the place's creation zxid, its token.
func (h *Hold) next(c Commit, results []zk.MultiResponse) (*Place, error) {
	q := h.place.queue
	if h.rolls() {
		q.use(h.place.k + 1)
	}
	if !c.Again {
		return nil, nil
	}
	at := h.before() + len(c.With)
	var token uint64
	if stat := results[1].Stat; stat != nil { // head's, unless it was made anew
		token = uint64(stat.Mzxid)
	}
	// That the counter is used up is the next Join's error: this turn is committed.
	place, err := q.line.Adopt(baseOf(results[at].String), token)
	if err != nil {
		return nil, nil
	}
	return &Place{queue: q, k: q.k, Place: place}, nil
}

func (h *Hold) createTurn(t frame.Turn) any {
	q := h.place.queue
	return &zk.CreateRequest{Path: q.root.Turn(t.Incarnation, t.Number), Data: t.Encode(), Acl: q.sess.ACL()}
}

func (h *Hold) setHead(head frame.Head) any {
	q := h.place.queue
	if h.at == noHead {
		return &zk.CreateRequest{Path: q.root.Head(), Data: head.Encode(), Acl: q.sess.ACL()}
	}
	return &zk.SetDataRequest{Path: q.root.Head(), Data: head.Encode(), Version: h.at}
}

// transact sends a transaction, the same again on this session when the connection
// breaks under it, until ZooKeeper's definite word. A refusal that follows a lost answer
// proves nothing: the first sending may have done it. While no answer was lost, an
// operation from fixed on that is refused is left out, for somebody else has done it, and
// so are those after it (Kept); and one in own is a *RefusedError.
func (h *Hold) transact(ctx context.Context, ops []any, own span, fixed int) ([]zk.MultiResponse, error) {
	sess := h.place.queue.sess
	lost := false
	for {
		results, err := sess.Multi(queue.Steady(ctx), ops...)
		at := refusedAt(results)
		switch {
		case err == nil:
			return results, nil
		case session.Definite(err) && !lost && denied(err): // whichever it is
			return nil, h.refused(ops, at, err)
		case session.Definite(err) && !lost && at >= fixed:
			// Those before it are there. Whether those after it are would cost a transaction
			// each, in our turn.
			for _, op := range ops[at+1:] {
				h.kept = append(h.kept, op.(*zk.DeleteRequest).Path)
			}
			ops = ops[:at:at]
			continue
		case session.Definite(err) && !lost && own.from <= at && at < own.to:
			return nil, &RefusedError{At: at - own.from, Err: err}
		case session.Definite(err) && !lost:
			return nil, h.refused(ops, at, err)
		case !errors.Is(err, session.ErrBroken) || queue.Over(ctx, sess):
			return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		lost = true
		queue.Pause(ctx, sess)
	}
}

// span is some of a transaction's operations, which follow each other.
type span struct{ from, to int }

// refusedAt is the first operation that was refused for what it is, -1 when none was.
// (Those after it are answered with an error too, that says so.)
func refusedAt(results []zk.MultiResponse) int {
	for i, r := range results {
		if r.Error != nil {
			if session.Definite(r.Error) {
				return i
			}
		}
	}
	return -1
}

// Kept are the nodes of Commit.Drop that are not known to be gone after a good commit,
// because one before them was gone already.
func (h *Hold) Kept() []string { return h.kept }

// Release gives the turn up without a commit. It works though the caller's own
// context has ended, and takes less than a second.
func (h *Hold) Release() { h.place.Leave() }
