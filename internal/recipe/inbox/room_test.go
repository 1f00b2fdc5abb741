package inbox_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/recipe/inbox"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// When the inbox is full, senders wait in line; whoever came first is let in first, and
// only that one is woken.
func TestSendersWaitForRoom(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	proxy := zktest.NewProxy(t, b.Server.Addr)
	limit := func(o *inbox.SenderOptions) { o.Limit = 10 }
	if _, err := b.sender(b.Server.Addr, limit).Send(t.Context(), raw(numbered("r", 10))...); err != nil {
		t.Fatal(err)
	}
	for _, patience := range []time.Duration{0, 300 * time.Millisecond} {
		start := time.Now()
		impatient := b.sender(b.Server.Addr, limit, func(o *inbox.SenderOptions) { o.Patience = patience })
		if _, err := impatient.Send(t.Context(), []byte("no")); !errors.Is(err, inbox.ErrFull) || time.Since(start) > patience+5*time.Second {
			t.Errorf("patience %v: %v after %v", patience, err, time.Since(start))
		}
		impatient.Close()
	}
	var all sync.WaitGroup
	for i, name := range []string{"a", "b", "c"} {
		all.Go(func() {
			if _, err := b.sender(proxy.Addr, limit).Send(recipetest.Background(t), []byte(name)); err != nil {
				t.Error(err)
			}
		})
		recipetest.Eventually(t, "it waits", func() bool { return len(b.look().Senders) == i+1 })
	}
	if _, err := b.sender(b.Server.Addr, limit, func(o *inbox.SenderOptions) { o.Patience = 0 }).Send(t.Context(), []byte("no")); !errors.Is(err, inbox.ErrFull) {
		t.Errorf("it does not stand in line: %v", err)
	}
	var woken atomic.Int32
	proxy.OnEvent(func(node string) {
		if strings.HasPrefix(node, b.dir.Messages()) {
			woken.Add(1)
		}
	})
	s := b.source(b.Server.Addr, "taker", func(o *inbox.SourceOptions) { o.MaxRecords = most(1) })
	for n, left := range [][]string{append(numbered("r", 10)[1:], "a"), append(numbered("r", 10)[2:], "a", "b"), append(numbered("r", 10)[3:], "a", "b", "c")} {
		b.take(s)
		if err := b.commit(s); err != nil {
			t.Fatal(err)
		}
		recipetest.Eventually(t, "the next is let in", func() bool { return len(b.messages()) == 10 && len(b.look().Senders) == 2-n })
		b.want(left...)
	}
	all.Wait()
	// Each departure wakes the first alone; a sender's watch may also tell of its own message.
	if n := woken.Load(); n > 6 {
		t.Errorf("%d wake-ups for three departures", n)
	}
}

// There is room for one message, and whoever came first has three.
func TestNobodyOvertakesWhoWaitsForRoom(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	limit := func(o *inbox.SenderOptions) { o.Limit = 10 }
	if _, err := b.sender(b.Server.Addr, limit).Send(t.Context(), raw(numbered("r", 9))...); err != nil {
		t.Fatal(err)
	}
	var large sync.WaitGroup
	large.Go(func() {
		if _, err := b.sender(b.Server.Addr, limit).Send(recipetest.Background(t), raw(numbered("large", 3))...); err != nil {
			t.Error(err)
		}
	})
	recipetest.Eventually(t, "it waits", func() bool { return len(b.look().Senders) == 1 })
	small := b.sender(b.Server.Addr, limit, func(o *inbox.SenderOptions) { o.Patience = 0 })
	if _, err := small.Send(t.Context(), []byte("small")); !errors.Is(err, inbox.ErrFull) {
		t.Errorf("it was sent: %v", err)
	}
	s := b.source(b.Server.Addr, "taker", func(o *inbox.SourceOptions) { o.MaxRecords = most(2) })
	b.take(s)
	if err := b.commit(s); err != nil {
		t.Fatal(err)
	}
	large.Wait()
	if _, err := small.Send(t.Context(), []byte("small")); !errors.Is(err, inbox.ErrFull) {
		t.Errorf("it is full again: %v", err)
	}
	b.want(append(numbered("r", 9)[2:], numbered("large", 3)...)...)
}
