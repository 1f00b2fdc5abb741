package filelock_test

import (
	"context"
	"errors"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/session"
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
