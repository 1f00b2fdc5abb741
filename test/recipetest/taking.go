package recipetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/session"
)

// taking is a Take under way.
type taking struct {
	held Held
	err  error
	done chan struct{}
}

func (s *Stage) start(ctx context.Context, take Take, sess *session.Session) *taking {
	w := &taking{done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.held, w.err = take(ctx, sess, s.Dir)
	}()
	return w
}

// takes gives what is free, to a session of its own.
func (s *Stage) takes(take Take) Held {
	s.T.Helper()
	return s.start(Background(s.T), take, s.Dial()).must(s.T)
}

// end waits for it.
func (w *taking) end(t testing.TB) (Held, error) {
	t.Helper()
	select {
	case <-w.done:
	case <-time.After(Patience):
		t.Fatal("it neither has it nor gives up")
	}
	return w.held, w.err
}

func (w *taking) must(t testing.TB) Held {
	t.Helper()
	held, err := w.end(t)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// waits starts a Take that must wait, and gives it back once it has a node and watches.
func (s *Stage) waits(ctx context.Context, take Take, sess *session.Session) *taking {
	s.T.Helper()
	watches := s.Server.Watches(s.T)
	w := s.start(ctx, take, sess)
	Eventually(s.T, "it waits", func() bool {
		return len(s.Owned(sess)) > 0 && s.Server.Watches(s.T) > watches
	})
	select {
	case <-w.done:
		s.T.Fatalf("it does not wait: %v", w.err)
	default:
	}
	return w
}

func ended(t testing.TB, held Held, want error) {
	t.Helper()
	select {
	case <-held.Context().Done():
		if cause := context.Cause(held.Context()); !errors.Is(cause, want) {
			t.Errorf("what was held ended with %v, want %v", cause, want)
		}
	case <-time.After(Patience):
		t.Fatal("who held it was never told")
	}
}
