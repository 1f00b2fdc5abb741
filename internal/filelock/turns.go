package filelock

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/queue"
)

// ErrNoTurn says that a turn has no node: it was never committed, or it is known to be
// on the volume's disk.
var ErrNoTurn = errors.New("the turn has no node")

// TurnError says that a turn's node cannot be believed: it was altered.
type TurnError struct {
	Node string
	Err  error
}

func (e *TurnError) Error() string { return fmt.Sprintf("%s cannot be believed: %v", e.Node, e.Err) }
func (e *TurnError) Unwrap() error { return e.Err }

// TurnName names a turn's node.
type TurnName struct {
	Incarnation uuid.UUID
	Number      uint64
}

// ListTurns lists the nodes of turns/, by number within an incarnation. Others that lie
// there are left out.
func ListTurns(ctx context.Context, sess Session, root Root) ([]TurnName, error) {
	names, err := sess.Children(ctx, root.Turns())
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the turns: %w", err)
	}
	var turns []TurnName
	for _, name := range names {
		if t, ok := parseTurnName(name); ok {
			turns = append(turns, t)
		}
	}
	slices.SortFunc(turns, func(a, b TurnName) int {
		return cmp.Or(bytes.Compare(a.Incarnation[:], b.Incarnation[:]), cmp.Compare(a.Number, b.Number))
	})
	return turns, nil
}

const uuidLen = 36

func parseTurnName(name string) (t TurnName, ok bool) {
	if len(name) < uuidLen+2 || name[uuidLen] != '-' {
		return t, false
	}
	id, err := uuid.Parse(name[:uuidLen])
	n, err2 := strconv.ParseUint(name[uuidLen+1:], 10, 64)
	t = TurnName{id, n}
	return t, err == nil && err2 == nil && path.Base(Root("/").Turn(id, n)) == name
}

// ReadTurn reads a committed turn. The error is ErrNoTurn, a *TurnError, or that of the
// read: not to be allowed to read it is not ErrNoTurn.
func ReadTurn(ctx context.Context, sess Session, root Root, name TurnName) (frame.Turn, error) {
	node := root.Turn(name.Incarnation, name.Number)
	there, err := sess.Get(ctx, node)
	if errors.Is(err, zk.ErrNoNode) {
		return frame.Turn{}, ErrNoTurn
	}
	if err != nil {
		return frame.Turn{}, fmt.Errorf("read turn %d: %w", name.Number, err)
	}
	turn, err := frame.ParseTurn(name.Number, there.Data)
	if err == nil && turn.Incarnation != name.Incarnation {
		err = fmt.Errorf("it is of incarnation %s", turn.Incarnation)
	}
	if err != nil {
		return frame.Turn{}, &TurnError{node, err}
	}
	return turn, nil
}

// DropTurns deletes nodes of turns. Only who has written and synced a turn itself may.
// On a nil error they are gone.
func DropTurns(ctx context.Context, sess Session, nodes []string) error {
	ops := make([]any, len(nodes))
	for i, node := range nodes {
		ops[i] = &zk.DeleteRequest{Path: node, Version: -1}
	}
	if len(ops) == 0 {
		return nil
	}
	if _, err := sess.Multi(ctx, ops...); err == nil {
		return nil
	}
	for _, node := range nodes { // some are gone already
		if err := queue.Remove(ctx, sess, node); err != nil {
			return err
		}
	}
	return nil
}
