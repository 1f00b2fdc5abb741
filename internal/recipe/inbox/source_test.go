package inbox_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/recipe/inbox"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// A source whose place is removed while it waits for messages takes another.
func TestAnEvictedSourceQueuesAgain(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	s := b.source(b.Server.Addr, "me", func(o *inbox.SourceOptions) { o.Turns = 1 })
	got := make(chan string)
	go func() { got <- b.take(s) }()
	recipetest.Eventually(t, "it is the first", func() bool { return len(b.Ephemeral()) == 1 })
	place := b.Ephemeral()[0]
	b.Delete(place)
	recipetest.Eventually(t, "it is there again", func() bool { now := b.Ephemeral(); return len(now) == 1 && now[0] != place })
	b.send(5, "a")
	if records := <-got; records != "a" {
		t.Errorf("took %q", records)
	}
	if err := b.commit(s); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("after all its turns: %v", err)
	}
	s.Close()
	b.NothingLeft()
}

// The agent is told of a session that ended while there was nothing to do, so that it
// enters the fleet again; then the source goes on.
func TestASourceGoesOnWithAnotherSession(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	proxy := zktest.NewProxy(t, b.Server.Addr)
	s := b.source(proxy.Addr, "me", func(o *inbox.SourceOptions) { o.Dial = b.dialer(proxy.Addr, 4*time.Second) })
	ended := make(chan error)
	go func() { ended <- s.Wait(recipetest.Background(t)) }()
	recipetest.Eventually(t, "it is the first", func() bool { return len(b.Ephemeral()) == 1 })
	proxy.Refuse(true)
	if err := <-ended; !errors.Is(err, session.ErrExpired) {
		t.Errorf("it ended with %v", err)
	}
	proxy.Refuse(false)
	b.send(5, "a")
	if got := b.take(s); got != "a" {
		t.Errorf("took %q", got)
	}
	s.Close()
	b.NothingLeft()
}
