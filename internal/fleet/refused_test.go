package fleet_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/zkdev"
)

// commits counts the commits that come to the server.
func commits(server *zkdev.Server) *atomic.Int32 {
	n := &atomic.Int32{}
	server.SetHook(func(at zkdev.Point, r zkdev.Request) zkdev.Action {
		if at == zkdev.BeforeEffect && r.Op == zkdev.OpMulti && isCommit(r.Paths) {
			n.Add(1)
		}
		return zkdev.Proceed
	})
	return n
}

// headOf is the fleet's head, and its node.
func (s *site) headOf(sess fleet.Session) (frame.Head, []byte) {
	s.t.Helper()
	node, err := sess.Get(s.t.Context(), s.root.Head())
	if err != nil {
		s.t.Fatal(err)
	}
	head, err := frame.ParseHead(node.Data)
	if err != nil {
		s.t.Fatal(err)
	}
	return head, node.Data
}

// Somebody made a node where the next turn's belongs. The agent ends at its first commit,
// with the next step: it does not queue again and again.
func TestRun_aNodeInTheTurnsPlaceIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	server := own(t)
	s := newSite(t, server.Addr())
	s.turns("before", 2)
	sess := s.onlooker()
	head, _ := s.headOf(sess)
	node := s.root.Turn(head.Incarnation, head.Turn+1)
	if _, err := sess.Create(t.Context(), node, []byte("by hand"), 0); err != nil {
		t.Fatal(err)
	}
	sent := commits(server)
	source := &script{name: "mine", count: 1}
	err := s.run(s.calm(source))
	wantRefused(t, "a node in the turn's place", err)
	if err == nil || !strings.Contains(err.Error(), node) {
		t.Errorf("it ended with %v", err)
	}
	if n := sent.Load(); n != 1 {
		t.Errorf("%d commits were sent", n)
	}
	// Without it the fleet goes on.
	if err := sess.Delete(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	if err := s.run(s.calm(source.rest())); err != nil {
		t.Fatal(err)
	}
	s.verify()
}

// Head may not be set: the agent ends at its first commit, and says where and what to do.
func TestRun_whoIsNotAllowedToCommitEndsAtOnce(t *testing.T) {
	t.Parallel()
	server := own(t)
	s := newSite(t, server.Addr())
	s.turns("before", 2)
	sess := s.onlooker()
	_, data := s.headOf(sess)
	_, err := sess.Multi(t.Context(), &zk.DeleteRequest{Path: s.root.Head(), Version: -1},
		&zk.CreateRequest{Path: s.root.Head(), Data: data, Acl: zk.WorldACL(zk.PermRead)})
	if err != nil {
		t.Fatal(err)
	}
	sent := commits(server)
	source := &script{name: "mine", count: 1}
	err = s.run(s.calm(source))
	var refused *filelock.NodeError
	if !errors.As(err, &refused) || refused.Node != s.root.Head() || !errors.Is(err, zk.ErrNoAuth) || errors.Is(err, filelock.ErrLost) {
		t.Errorf("it ended with %v", err)
	}
	if n := sent.Load(); n != 1 {
		t.Errorf("%d commits were sent", n)
	}
	if source.Pending() != 1 {
		t.Error("its record is not pending")
	}
}
