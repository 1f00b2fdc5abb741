package filelock_test

import (
	"context"
	"errors"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/session"
)

// stale is a session with a leader that was deposed and does not know it: it answers
// reads from the past, and no write of its comes through.
type stale struct {
	filelock.Session
	writes int
}

func (s *stale) Multi(context.Context, ...any) ([]zk.MultiResponse, error) {
	s.writes++
	return nil, session.ErrExpired
}

// A place that is still there for a server that is behind is no proof that it is.
func TestConfirmIsNotContentWithARead(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a")
	s := &stale{Session: m.sess}
	queue := filelock.New(s, f.root, filelock.Member{Agent: "a"}, nil, nil)
	place, err := queue.Join(background(t))
	if err != nil {
		t.Fatal(err)
	}
	hold, err := place.Wait(background(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := hold.Confirm(); !errors.Is(err, session.ErrExpired) || s.writes == 0 {
		t.Errorf("confirmed by a read: %v", err)
	}
}

// behind is a session whose reads of head are from the past until a quorum is asked.
type behind struct {
	filelock.Session
	head  string
	past  session.Node
	asked bool
}

func (b *behind) Multi(ctx context.Context, ops ...any) ([]zk.MultiResponse, error) {
	b.asked = true
	return b.Session.Multi(ctx, ops...)
}

func (b *behind) Get(ctx context.Context, path string) (session.Node, error) {
	if path == b.head && !b.asked {
		return b.past, nil
	}
	return b.Session.Get(ctx, path)
}

// The place may have been removed by another session, or the answer of ours may have come
// from another server than head will.
func TestSettleAsksAQuorumBeforeItReadsHead(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.setHead("before")
	past := f.head()
	m := f.member("a")
	hold := m.hold()
	lose(m)
	_, err := tryCommit(t, hold, "committed", true)
	is(t, "commit", err, filelock.ErrUnknown)
	m.proxy.OnRequest(nil)
	queue := filelock.New(&behind{Session: m.sess, head: f.root.Head(), past: past}, f.root, filelock.Member{Agent: "a"}, nil, nil)
	if head, err := queue.Settle(background(t), hold); err != nil || head.Agent != "committed" {
		t.Errorf("settled: %q, %v", head.Agent, err)
	}
}
