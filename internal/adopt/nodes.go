package adopt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// node is one of turns/.
type node struct {
	filelock.TurnName
	path string
	data []byte      // as it stands in ZooKeeper
	turn *frame.Turn // nil when it cannot be believed
}

// listNodes reads the nodes of turns/. One that goes meanwhile has been written by its
// owner: a copy that is made afterwards has it. Not to be allowed to read one is an error.
func (a *adoption) listNodes(ctx context.Context) ([]node, error) {
	names, err := filelock.ListTurns(ctx, a.Sess, a.Root)
	if err != nil {
		return nil, err
	}
	var nodes []node
	for _, name := range names {
		n := node{TurnName: name, path: a.Root.Turn(name.Incarnation, name.Number)}
		there, err := a.Sess.Get(ctx, n.path)
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s, which may hold committed records: %w", n.path, err)
		}
		n.data = there.Data
		t, err := frame.ParseTurn(name.Number, there.Data)
		if err == nil && t.Incarnation == name.Incarnation && !a.beyond(t) {
			n.turn = &t
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// beyond tells of a turn that it is not committed: its node was not made by a commit.
func (a *adoption) beyond(t frame.Turn) bool {
	return a.known.edition == second && t.Incarnation == a.known.head.Incarnation && t.Number > a.known.head.Turn
}

// file is a file that turns are looked up in.
type file interface {
	ReadAt(b []byte, at int64) (int, error)
}

// placeless are those nodes whose bytes a file does not have where they belong.
func placeless(nodes []node, in file) (lost []node, err error) {
	for _, n := range nodes {
		there := false
		if n.turn != nil {
			if there, err = has(in, n.turn.Bytes, n.turn.Offset); err != nil {
				return nil, err
			}
		}
		if !there {
			lost = append(lost, n)
		}
	}
	return lost, nil
}

func has(in file, b []byte, at int64) (bool, error) {
	there := make([]byte, len(b))
	n, err := in.ReadAt(there, at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return bytes.Equal(there[:n], b), err
}

// lostText is how nodes without a place are saved: for each a line with its name and size,
// then what it has, byte for byte, and a newline.
func lostText(lost []node) (text []byte) {
	for _, n := range lost {
		text = fmt.Appendf(text, "# %s, %d bytes:\n", n.path, len(n.data))
		text = append(append(text, n.data...), '\n')
	}
	return text
}
