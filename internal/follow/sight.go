// Package follow reads what a fleet has committed, as somebody beside it sees it: from
// head, from the nodes of the turns that are not known to be on the disk, and from the
// file.
//
// # What is promised
//
// A turn is committed before it is written, so the file may lack what head knows. Head is
// read first, then the turns' nodes, then the file: what has no node then was on the disk
// before the file was looked at. Where it still seems not to be there, the look was stale,
// and all three are looked at again, for a while, before anything is called missing.
//
// Nothing is given out that is not committed, and each byte once and in order. What comes
// from the file is held to the chain of sums, so that a stale page is never given out.
package follow

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/queue"
)

// Sight is what ZooKeeper says of the file.
type Sight struct {
	Head    *frame.Head     // nil when there is none
	Turns   []frame.Turn    // committed, and not known to be on the disk; by number
	Doubts  []error         // nodes that cannot be believed, each with its name
	Changed <-chan zk.Event // tells when head has changed
}

// Watch reads head, and watches it, and then the nodes of the turns from a number on.
func Watch(ctx context.Context, sess filelock.Session, root filelock.Root, from uint64) (s Sight, err error) {
	if s.Head, s.Changed, err = watchHead(ctx, sess, root); err != nil || s.Head == nil {
		return s, err
	}
	s.Turns, s.Doubts, err = Turns(ctx, sess, root, *s.Head, from)
	return s, err
}

func watchHead(ctx context.Context, sess filelock.Session, root filelock.Root) (*frame.Head, <-chan zk.Event, error) {
	for {
		node, err := sess.Watch(ctx, root.Head())
		if err == nil {
			head, err := frame.ParseHead(node.Data)
			return &head, node.Watch, err
		}
		if !errors.Is(err, zk.ErrNoNode) {
			return nil, nil, fmt.Errorf("read head: %w", err)
		}
		exists, made, err := sess.WatchFor(ctx, root.Head())
		if err != nil {
			return nil, nil, fmt.Errorf("look for head: %w", err)
		}
		if !exists {
			return nil, made, nil
		}
	}
}

// Turns reads the nodes of head's incarnation from a number on, those that head knows of.
// One that is gone before it could be read is on the disk, and left out.
func Turns(ctx context.Context, sess filelock.Session, root filelock.Root, head frame.Head, from uint64) (turns []frame.Turn, doubts []error, err error) {
	names, err := filelock.ListTurns(ctx, sess, root)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		if name.Incarnation != head.Incarnation || name.Number < from || name.Number > head.Turn {
			continue
		}
		turn, err := filelock.ReadTurn(ctx, sess, root, name)
		var doubt *filelock.TurnError
		switch {
		case err == nil:
			turns = append(turns, turn)
		case errors.Is(err, filelock.ErrNoTurn):
		case errors.As(err, &doubt):
			doubts = append(doubts, err)
		default:
			return nil, nil, err
		}
	}
	return turns, doubts, nil
}

// Head reads head; nil when there is none.
func Head(ctx context.Context, sess filelock.Session, root filelock.Root) (*frame.Head, error) {
	head, _, err := filelock.ReadHead(ctx, sess, root)
	if errors.Is(err, filelock.ErrNoHead) {
		return nil, nil
	}
	return &head, err
}

// Final is Head behind a quorum: it is no older than what anybody knew before the call.
func Final(ctx context.Context, sess filelock.Session, root filelock.Root) (*frame.Head, error) {
	if err := queue.Barrier(ctx, sess, string(root)); errors.Is(err, zk.ErrNoNode) {
		return nil, nil // all of the fleet's nodes are gone
	} else if err != nil {
		return nil, fmt.Errorf("ask a quorum for head: %w", err)
	}
	return Head(ctx, sess, root)
}
