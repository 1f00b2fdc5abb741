// Package clock has the keys of an embedded Redis expire as time passes; by itself it does not.
package clock

import (
	"context"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// Tick goes on until ctx ends.
func Tick(ctx context.Context, server *miniredis.Miniredis) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ticker.C:
			now := time.Now()
			server.FastForward(now.Sub(last))
			last = now
		case <-ctx.Done():
			return
		}
	}
}
