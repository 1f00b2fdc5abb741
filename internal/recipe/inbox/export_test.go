package inbox

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/session"
)

// Sweep is a sender's tidying up, for tests that cannot wait a day.
func Sweep(ctx context.Context, sess *session.Session, dir Dir, own string, after time.Duration) {
	sweep(ctx, sess, dir, own, after, zap.NewNop())
}
