package ids_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/ids"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
)

func pool(sess *session.Session, dir string, size int) *ids.Pool {
	return &ids.Pool{Sess: sess, Dir: dir, Size: size, Who: queue.Member{Agent: "a", Host: "h"}, Log: zap.NewNop()}
}

// stage is a server of the test's own.
type stage struct{ *recipetest.Stage }

func newStage(t *testing.T) stage { return stage{recipetest.NewStage(t)} }

// pool is one of a session of its own.
func (s stage) pool(size int) *ids.Pool { return pool(s.Dial(), s.Dir, size) }

func (s stage) take(p *ids.Pool) *ids.ID {
	s.T.Helper()
	id, err := p.Take(recipetest.Background(s.T))
	if err != nil {
		s.T.Fatal(err)
	}
	return id
}

// taking is a Take under way.
type taking struct {
	id   *ids.ID
	err  error
	done chan struct{}
}

// waits starts a Take, which must join the line.
func (s stage) waits(ctx context.Context, p *ids.Pool) *taking {
	s.T.Helper()
	w := &taking{done: make(chan struct{})}
	before := len(s.waiting())
	go func() {
		defer close(w.done)
		w.id, w.err = p.Take(ctx)
	}()
	recipetest.Eventually(s.T, "it waits", func() bool { return len(s.waiting()) == before+1 })
	return w
}

func (w *taking) must(t testing.TB) *ids.ID {
	t.Helper()
	select {
	case <-w.done:
	case <-time.After(recipetest.Patience):
		t.Fatal("it neither has a number nor gives up")
	}
	if w.err != nil {
		t.Fatal(w.err)
	}
	return w.id
}

func (s stage) waiting() (names []string) {
	entries, err := queue.Look(recipetest.Background(s.T), s.Sess, s.Dir+"/waiting")
	if err != nil {
		s.T.Fatal(err)
	}
	for _, e := range entries {
		if !e.Foreign {
			names = append(names, e.Place)
		}
	}
	return names
}

func (s stage) create(node string) {
	s.T.Helper()
	if _, err := s.Sess.Create(recipetest.Background(s.T), node, []byte("planted"), 0); err != nil {
		s.T.Fatal(err)
	}
}

func wantNumber(t testing.TB, id *ids.ID, want int) {
	t.Helper()
	if id.Number() != want {
		t.Errorf("got number %d, want %d", id.Number(), want)
	}
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}
