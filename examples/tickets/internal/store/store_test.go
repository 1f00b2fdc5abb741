package store_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/stage"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/store"
)

// TestAnew_aPausedProcessHoldsNobodyUp: it has the row that all others want, and says nothing
// more. PostgreSQL ends its transaction. (SQLite's file is one machine's, and cannot.)
func TestAnew_aPausedProcessHoldsNobodyUp(t *testing.T) {
	if os.Getenv("TICKETS_TEST_POSTGRES") == "" {
		t.Skip("TICKETS_TEST_POSTGRES names no PostgreSQL; with-services.sh starts one")
	}
	db := stage.Store(t, locks.Redis, 1)
	paused, err := store.Open(os.Getenv("TICKETS_TEST_POSTGRES"))
	if err != nil {
		t.Fatal(err)
	}
	defer paused.Close()
	holds, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := paused.Anew(context.Background(), locks.Redis, func(_ context.Context, now int64) (int64, error) {
			close(holds)
			<-goOn // and does not look at its context
			return now + 100, nil
		})
		ended <- err
	}()
	<-holds
	ctx, cancel := context.WithTimeout(t.Context(), stage.Patience)
	defer cancel()
	now, err := db.Anew(ctx, locks.Redis, func(_ context.Context, now int64) (int64, error) { return now + 1, nil })
	if err != nil {
		t.Errorf("another: %v", err)
	}
	if err := db.Init(ctx, locks.ZooKeeper, nil); err != nil {
		t.Errorf("init: %v", err)
	}
	close(goOn)
	if err := <-ended; err == nil {
		t.Error("it decided after all")
	}
	if after, err := db.Selling(ctx); err != nil || after.Epoch != now.Epoch+1 {
		t.Errorf("%+v, then %+v, %v", now, after, err)
	}
}

// TestAnew_aDecisionHasAnEnd: the lock service does not answer, and others wait.
func TestAnew_aDecisionHasAnEnd(t *testing.T) {
	db := stage.Store(t, locks.Redis, 1)
	_, err := db.Anew(t.Context(), locks.Redis, func(ctx context.Context, _ int64) (int64, error) {
		deadline, ok := ctx.Deadline()
		if left := time.Until(deadline); !ok || left > 2*time.Second {
			t.Errorf("it has %v (%v)", left, ok)
		}
		return 0, context.DeadlineExceeded
	})
	if err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("%v", err)
	}
}
