package fleet

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// A process that was stopped while it waited finds both gone at once: its session
// and its patience. Then it is the session that matters, for there will be another.
func TestWaitingForANameEndsWithTheSessionWhenBothAreOver(t *testing.T) {
	sess, err := session.Dial(t.Context(), session.Options{
		Servers: strings.Split(zktest.Shared(t), ","), Timeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	sess.Discard("the process was stopped")
	if err := waitGone(ctx, sess, "/"); !errors.Is(err, session.ErrExpired) {
		t.Errorf("got %v, want ErrExpired", err)
	}
}
