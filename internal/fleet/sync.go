package fleet

import (
	"context"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// A sync takes long, and a write does not: while one sync is under way the scribe goes on
// writing, so that nobody who waits for a turn of ours to appear waits for our disk.

// synced is how a sync ended.
type synced struct {
	of    int // of the file's descriptors: which one
	turns int // how many of unsynced were written before it began
	err   error
}

// startSync has what was written made durable, unless a sync is under way.
func (s *scribe) startSync(ctx context.Context) {
	if s.syncing || len(s.unsynced) == 0 || s.trouble {
		return
	}
	s.syncing = true
	s.mu.Lock()
	s.syncSince = time.Now()
	s.mu.Unlock()
	sync, outcome := s.File.Syncer(), synced{of: s.File.Opened(), turns: len(s.unsynced)}
	go func() { // ends with the sync
		outcome.err = sync()
		select {
		case s.syncs <- outcome:
		case <-ctx.Done():
		}
	}()
}

// endSync takes a sync's outcome. What it says of a descriptor that was closed since says
// nothing. Before anything is acknowledged or deleted, path and descriptor are compared.
func (s *scribe) endSync(ctx context.Context, outcome synced) error {
	s.syncing = false
	s.mu.Lock()
	s.syncSince = time.Time{}
	s.mu.Unlock()
	switch {
	case outcome.of != s.File.Opened() || !s.File.Attached() || s.trouble:
		return nil // what was written is written again
	case outcome.err != nil:
		return s.volume("sync", func() error { return outcome.err })
	}
	if err := s.volume("look", s.File.Same); err != nil {
		return err
	}
	others := s.durable(outcome.turns)
	s.recovered()
	if err := s.acknowledge(ctx); err != nil || !others {
		return err
	}
	return s.dropAll(ctx, s.sess()) // nobody else will, and we may have no commit to come
}

// syncNow is for volumes on which each write is durable when it is done.
func (s *scribe) syncNow(ctx context.Context) error {
	return s.endSync(ctx, synced{of: s.File.Opened(), turns: len(s.unsynced)})
}

// isDurable tells whether a write on the volume is durable when it is done.
func (s *scribe) isDurable() bool { return s.File.Mode != writer.Plain }
