package filelock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/session"
)

// Hold is our turn: what an agent has from the moment when its place is the first
// until it commits, releases or loses it.
type Hold struct {
	place *Place
	head  []byte
	at    int32 // head's version; noHead when there is none

	nextID string // of the place that the commit takes, to be found again

	ctx context.Context
	end context.CancelCauseFunc
}

const noHead = -1

// take makes the place a hold. It reads head, and then makes sure that our place is
// still there and that the fleet is not halted: both are watched, and what happened
// before head was read has been told when its answer comes.
func (p *Place) take(ctx context.Context) (*Hold, error) {
	q := p.queue
	hold := &Hold{place: p, at: noHead}
	switch head, err := q.sess.Get(ctx, q.root.Head()); {
	case err == nil:
		hold.head, hold.at = head.Data, head.Stat.Version
	case !errors.Is(err, zk.ErrNoNode):
		return nil, fmt.Errorf("read head: %w", err)
	}
	if err := p.Recheck(ctx); err != nil {
		return nil, err
	}
	if err := q.checkHalt(ctx); err != nil {
		return nil, err
	}
	hold.ctx, hold.end = p.Guard()
	return hold, nil
}

// follows tells whether head was committed by the holder of token. If that was the
// place just before ours, it is our turn, and head is the newest: it could only
// commit when nobody was before it, and nobody can after it but us. That needs no
// second list, and no trust in the server that we read from being up to date.
func (h *Hold) follows(token uint64) bool { return names(h.head, token) }

// names tells whether head was committed by the holder of token.
func names(head []byte, token uint64) bool {
	var committer struct {
		Token string `json:"token"`
	}
	if json.Unmarshal(head, &committer) != nil {
		return false
	}
	return committer.Token == fmt.Sprintf("0x%x", token)
}

// Context is done when the turn is over or lost; context.Cause tells which:
// ErrLost, or the session's end.
func (h *Hold) Context() context.Context { return h.ctx }

// Token is the fencing token: the place's creation zxid, higher than that of
// every earlier turn.
func (h *Hold) Token() uint64 { return h.place.Token() }

// Head is head's data as it was committed last, nil when there is no head.
func (h *Hold) Head() []byte { return h.head }

// Err is nil while the turn lasts, as far as can be known here and now.
func (h *Hold) Err() error {
	if h.ctx.Err() == nil {
		return h.place.queue.sess.Err()
	}
	return context.Cause(h.ctx)
}

// Confirm asks a quorum of ZooKeeper whether our place is still there: nil, and nobody
// else can have a later turn; ErrLost, or the reason why it could not be asked.
func (h *Hold) Confirm() error {
	sess := h.place.queue.sess
	ctx, cancel := context.WithTimeout(h.ctx, queue.Cleanup)
	defer cancel()
	err := queue.Barrier(ctx, sess, h.place.Path())
	if errors.Is(err, zk.ErrNoNode) {
		return ErrLost
	}
	return err
}

// Publish makes head what the caller says, creating it if need be, and keeps the
// turn. It is how an incarnation begins. Like Commit it fails as a whole when our
// place is gone. The head must not name our token: whoever reads it would take it for
// our commit, the last thing that we do.
func (h *Hold) Publish(ctx context.Context, head []byte) error {
	if names(head, h.Token()) {
		return errors.New("publish head: it names our token, as only our commit may")
	}
	ops := []any{&zk.CheckVersionRequest{Path: h.place.Path(), Version: -1}, h.setHead(head)}
	if _, err := h.transact(ctx, ops); err != nil {
		return fmt.Errorf("publish head: %w", err)
	}
	h.head, h.at = head, h.at+1 // a created node has version 0
	return nil
}

// Commit makes head what the caller says, gives the turn up, and when again is
// set takes the next place, all in one transaction. On a nil error the turn is
// committed for good and the hold has ended; next is nil unless again was set.
//
// with are more operations of the transaction: all happen or none.
//
// ErrLost: nothing was committed, nor ever will be. ErrUnknown: see Settle; the
// hold has ended all the same.
func (h *Hold) Commit(ctx context.Context, head []byte, again bool, with ...any) (next *Place, err error) {
	q := h.place.queue
	// Deleting our own place is the check: it fails, and all with it, when we
	// were fenced off. Head's version is belt beside braces.
	ops := []any{h.setHead(head), &zk.DeleteRequest{Path: h.place.Path(), Version: -1}}
	ops = append(ops, with...)
	if again {
		h.nextID = queue.NewID()
		ops = append(ops, &zk.CreateRequest{
			Path: q.line.Prefix(h.nextID), Data: q.line.Card(), Acl: q.sess.ACL(),
			Flags: zk.FlagEphemeral | zk.FlagSequence,
		})
	}
	h.place.Leaving()
	results, err := h.transact(ctx, ops)
	h.end(context.Canceled)
	if errors.Is(err, ErrLost) {
		h.place.Leave() // for it may not have been our place that was refused
	}
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	if again {
		// That the counter is used up is the next Join's error: this turn is
		// committed.
		next, _ = q.adopt(path.Base(results[len(results)-1].String))
	}
	return next, nil
}

func (q *Queue) adopt(name string) (*Place, error) {
	place, err := q.line.Adopt(name)
	if err != nil {
		return nil, err
	}
	return &Place{queue: q, Place: place}, nil
}

func (h *Hold) setHead(head []byte) any {
	root := h.place.queue.root
	if h.at == noHead {
		return &zk.CreateRequest{Path: root.Head(), Data: head, Acl: h.place.queue.sess.ACL()}
	}
	return &zk.SetDataRequest{Path: root.Head(), Data: head, Version: h.at}
}

// transact sends a transaction, byte for byte the same again on this session when
// the connection breaks under it, until ZooKeeper's definite word. A refusal that
// follows a lost answer proves nothing: the first sending may have done it.
func (h *Hold) transact(ctx context.Context, ops []any) ([]zk.MultiResponse, error) {
	sess := h.place.queue.sess
	lost := false
	for {
		results, err := sess.Multi(ctx, ops...)
		switch {
		case err == nil:
			return results, nil
		case session.Definite(err) && !lost:
			return nil, fmt.Errorf("%w: ZooKeeper refused: %w", ErrLost, err)
		case !errors.Is(err, session.ErrBroken) || queue.Over(ctx, sess):
			return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		lost = true
		queue.Pause(ctx, sess)
	}
}

// Release gives the turn up without a commit. It works though the caller's own
// context has ended, and takes less than a second.
func (h *Hold) Release() {
	h.end(context.Canceled)
	h.place.Leave()
}
