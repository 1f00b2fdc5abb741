package filelock

import (
	"errors"
	"fmt"
	"path"

	"github.com/go-zookeeper/zk"
)

// NodeError says that ZooKeeper refuses a transaction because of a node, for a reason that
// does not pass by itself: it needs a person. Nothing was committed.
type NodeError struct {
	Node string
	Next string // what to do about it
	Err  error
}

func (e *NodeError) Error() string {
	return fmt.Sprintf("ZooKeeper refuses the transaction because of %s: %v; nothing was committed; %s", e.Node, e.Err, e.Next)
}
func (e *NodeError) Unwrap() error { return e.Err }

// refused tells what it means that an operation of a transaction was refused, when no
// answer was lost before. ErrLost, after which one queues again at once, is only for what
// another holder, or who evicts us, brings about: that our place is gone, or that head
// moved on. All else would be refused again and again.
func (h *Hold) refused(ops []any, at int, err error) error {
	root := h.place.queue.root
	node, creates := string(root), false
	if at >= 0 {
		node, creates = nodeOf(ops[at])
	}
	switch {
	case denied(err):
		return &NodeError{Node: node, Err: err, Next: nextDenied}
	case creates && path.Dir(node) == root.Turns() && errors.Is(err, zk.ErrNodeExists):
		return &TurnError{Node: node, Err: errors.New("it is there, and its turn is not committed: somebody made it by hand")}
	case at < 0, node == root.Head() && !errors.Is(err, zk.ErrNotEmpty), node == h.place.Path() && errors.Is(err, zk.ErrNoNode):
		return fmt.Errorf("%w: ZooKeeper refused: %w", ErrLost, err)
	}
	return &NodeError{Node: node, Err: err, Next: "look there with `agent znode stat`, and find out who changed it; nodes of the fleet's that are missing are made again by an agent that is started"}
}

const nextDenied = "give this agent the digest of the fleet (zookeeper.digest_file), or have the owner of the node allow it"

// denied tells a refusal that has its reason in who we are.
func denied(err error) bool { return errors.Is(err, zk.ErrNoAuth) || errors.Is(err, zk.ErrInvalidACL) }

// nodeOf is the node that an operation is about, and whether it creates it.
func nodeOf(op any) (node string, creates bool) {
	switch op := op.(type) {
	case *zk.CreateRequest:
		return op.Path, true
	case *zk.SetDataRequest:
		return op.Path, false
	case *zk.DeleteRequest:
		return op.Path, false
	case *zk.CheckVersionRequest:
		return op.Path, false
	}
	return fmt.Sprintf("%T", op), false
}
