package filelock_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
)

// lock makes a node anew that nobody may change.
func (f *fleet) lock(node string) {
	f.t.Helper()
	data := f.node(node).Data
	_, err := f.sess.Multi(background(f.t), &zk.DeleteRequest{Path: node, Version: -1},
		&zk.CreateRequest{Path: node, Data: data, Acl: zk.WorldACL(zk.PermRead)})
	if err != nil {
		f.t.Fatal(err)
	}
}

// What would be refused again and again is not told as a turn that was lost: it needs a
// person, who is told where and what to do. Our place is given up.
func TestARefusalThatDoesNotPassNeedsAPerson(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(f *fleet) (node string, c filelock.Commit)
		err   error
	}{
		"head may not be set": {func(f *fleet) (string, filelock.Commit) {
			f.lock(f.root.Head())
			return f.root.Head(), filelock.Commit{}
		}, zk.ErrNoAuth},
		"the turn's node may not be made": {func(f *fleet) (string, filelock.Commit) {
			f.lock(f.root.Turns())
			return f.turnNode(1), filelock.Commit{}
		}, zk.ErrNoAuth},
		"the caller's operation may not be done": {func(f *fleet) (string, filelock.Commit) {
			f.make(string(f.root)+"/inbox", "")
			f.make(string(f.root)+"/inbox/message", "")
			_, err := f.sess.Multi(background(f.t), &zk.DeleteRequest{Path: string(f.root) + "/inbox/message", Version: -1})
			is(f.t, "delete", err, nil)
			f.lock(string(f.root) + "/inbox")
			node := string(f.root) + "/inbox/message"
			return node, filelock.Commit{With: []any{&zk.CreateRequest{Path: node, Acl: zk.WorldACL(zk.PermAll)}}}
		}, zk.ErrNoAuth},
		"an old turn's node may not be deleted": {func(f *fleet) (string, filelock.Commit) {
			f.make(string(f.root)+"/kept", "")
			f.lock(string(f.root) + "/kept")
			return string(f.root) + "/kept/old", filelock.Commit{Drop: []string{string(f.root) + "/kept/old"}}
		}, zk.ErrNoAuth},
		"turns/ is gone": {func(f *fleet) (string, filelock.Commit) {
			is(f.t, "delete", f.sess.Delete(background(f.t), f.root.Turns()), nil)
			return f.turnNode(1), filelock.Commit{}
		}, zk.ErrNoNode},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			f.setHead("before")
			node, commit := c.spoil(f)
			m := f.member("a")
			hold := m.hold()
			commit.Turn, commit.Again = turn(hold, "one"), true
			sent := m.counts()
			_, err := hold.Commit(background(t), commit)
			var refused *filelock.NodeError
			if !errors.As(err, &refused) || refused.Node != node || refused.Next == "" || !errors.Is(err, c.err) {
				t.Fatalf("commit: %v, want that it is refused because of %s", err, node)
			}
			if errors.Is(err, filelock.ErrLost) || !strings.Contains(err.Error(), node) || !strings.Contains(err.Error(), refused.Next) {
				t.Errorf("commit: %v", err)
			}
			if n := sent.Load(); n != 2 { // and the one that finds our place, to give it up
				t.Errorf("%d transactions were sent", n)
			}
			f.wantHead("before")
			f.wantAgents("")
		})
	}
}

// Somebody made a node where our turn's belongs: that is not a turn that was lost.
func TestANodeInTheTurnsPlaceIsNotBelieved(t *testing.T) {
	for _, rolls := range []bool{false, true} {
		t.Run(fmt.Sprint("rolls ", rolls), func(t *testing.T) {
			f := newFleet(t)
			if rolls {
				f = rolling(t)
			} else {
				f.setHead("before")
			}
			m := f.member("a")
			hold := m.hold()
			turn := turn(hold, "one")
			node := f.root.Turn(turn.Incarnation, turn.Number)
			f.make(node, "by hand")
			_, err := hold.Commit(background(t), filelock.Commit{Turn: turn, Again: true})
			var altered *filelock.TurnError
			if !errors.As(err, &altered) || altered.Node != node || errors.Is(err, filelock.ErrLost) {
				t.Errorf("commit: %v, want that %s is not believed", err, node)
			}
			f.wantAgents("")
		})
	}
}
