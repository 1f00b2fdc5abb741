package fleet_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// multis is a session that does something in front of its transactions.
type multis struct {
	fleet.Session
	before func(sess fleet.Session, ops []any) error // an error: it is not sent
}

func (m *multis) Multi(ctx context.Context, ops ...any) ([]zk.MultiResponse, error) {
	if err := m.before(m.Session, ops); err != nil {
		return nil, err
	}
	return m.Session.Multi(ctx, ops...)
}

// onMulti has opts' sessions call before in front of each transaction.
func onMulti(opts *fleet.Options, before func(sess fleet.Session, ops []any) error) {
	dial := opts.Dial
	opts.Dial = func(ctx context.Context) (fleet.Session, error) {
		sess, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return &multis{sess, before}, nil
	}
}

// A holder that sees ZooKeeper gone back asks whether its place stands, and is not
// answered: it gives the place up all the same, or it would queue behind itself.
func TestRun_whoIsNotToldOfItsPlaceDoesNotQueueBehindIt(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	s.turns("before", 2)
	sess := s.onlooker()
	past := s.getHead(sess)
	source := &script{name: "mine", count: 3}
	var back atomic.Bool
	source.before = func(n int) {
		if n == 1 {
			s.setHead(sess, past)
			back.Store(true)
		}
	}
	opts := s.calm(source)
	var asked atomic.Int64
	onMulti(&opts, func(_ fleet.Session, ops []any) error {
		check, ok := ops[0].(*zk.CheckVersionRequest)
		if ok && back.Load() && strings.Contains(check.Path, "/queue-1/") && asked.Add(1) == 1 {
			return fmt.Errorf("a test says so: %w", context.DeadlineExceeded)
		}
		return nil
	})
	agent := s.start(opts)
	err := agent.wait()
	wantRefused(t, "a ZooKeeper that went back", err)
	if n := asked.Load(); n != 2 || !agent.says("queueing again") {
		t.Errorf("it asked for its place %d times", n)
	}
	if n, _ := source.at(); n != 1 {
		t.Errorf("%d turns were committed", n)
	}
}

// A commit that would have deleted the node of an earlier turn is in doubt, and did not
// happen: the node goes later.
func TestRun_whatADoubtfulCommitWasToDropIsDroppedLater(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	source := &script{name: "mine", count: 4}
	source.before = func(int) {} // what was committed before is on disk, and its node may go
	opts := s.calm(source)
	var doubted atomic.Int64
	onMulti(&opts, func(sess fleet.Session, ops []any) error {
		create, ok := ops[min(2, len(ops)-1)].(*zk.CreateRequest)
		last, drops := ops[len(ops)-1].(*zk.DeleteRequest)
		if !ok || !drops || !strings.Contains(create.Path, "/turns/") || !strings.Contains(last.Path, "/turns/") || doubted.Add(1) > 1 {
			return nil
		}
		sess.Discard("a test says so")
		return fmt.Errorf("%w: a test says so", session.ErrExpired)
	})
	agent := s.start(opts)
	if err := agent.wait(); err != nil {
		t.Fatal(err)
	}
	if doubted.Load() == 0 || !agent.says("its records are for another turn") {
		t.Error("no commit was in doubt")
	}
	if left := s.nodes(s.onlooker()); len(left) > 0 {
		t.Errorf("the turns %d have a node yet", left)
	}
	s.verify()
	s.wantOnce(source)
}

// clinging are lives that cannot be ended: their volume hangs.
type clinging struct {
	fleet.Lives
	free chan struct{}
}

func (c clinging) Hold(name string) (string, func(), error) {
	life, release, err := c.Lives.Hold(name)
	return life, func() { <-c.free; release() }, err
}

// A volume that hangs when the marker is to be taken away does not keep the agent from
// ending.
func TestRun_aMarkerThatCannotBeRemovedHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	source := &script{name: "mine", count: 2}
	opts := s.calm(source)
	free := make(chan struct{})
	opts.Lives = clinging{opts.Lives, free}
	agent := s.start(opts)
	defer close(free)
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
	if !agent.says("cannot be removed") {
		t.Error("it does not say that its marker stays")
	}
	s.wantOnce(source)
}
