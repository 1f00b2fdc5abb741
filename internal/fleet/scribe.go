package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/session"
)

// mostUnder is how many bytes of an agent's turns may be committed and not acknowledged.
const mostUnder = 512 << 10

// scribe writes an agent's committed turns into the file, in order, each after what the
// file lacks before it; makes them durable, one sync for all that is written; and
// acknowledges them in order. It is the only one that touches the volume.
//
// Its own turns it writes itself, in full, though the file may already show them: that
// others' bytes are visible does not say that they are on disk. What it has written and
// synced through one descriptor, own turns and others', it may have deleted from turns/.
type scribe struct {
	*Agent
	jobs  chan job
	syncs chan synced   // capacity 1: a sync has ended
	wake  chan struct{} // capacity 1: there is something to write
	moved chan struct{} // capacity 1: something changed that the agent may wait for
	gone  chan struct{} // closed when the goroutine has ended
	fail  context.CancelCauseFunc

	acking chan struct{} // capacity 1: full while a turn is acknowledged, or what is left counted

	// What follows only the scribe's goroutine uses.
	unsynced []frame.Turn         // written since the last good sync, in the file's order, others' too
	watched  map[string]time.Time // leftovers, since when they have been seen
	fleet    int32                // how many agents it has, when they were counted last
	sweeps   int                  // how often leftovers could have been looked for
	resume   uint64               // at which turn the next look at leftovers begins
	waits    map[string]patience  // how long to wait for whose turn
	vain     vain                 // and how long that was no use
	marker   string               // the life that the fleet was told
	syncing  bool                 // a sync is under way
	trouble  bool                 // what is unsynced must be written again, through a new descriptor
	doubted  time.Time            // since when what looks wrong may yet come right; zero when nothing does

	mu        sync.Mutex // guards what follows
	session   Session    // nil before the first
	under     []*entry   // committed and not acknowledged, in order
	bytes     int        // theirs
	drops     []string   // nodes of turns that may go
	dropped   time.Time  // since when the oldest of them may
	dropBytes int        // how many bytes they hold, about
	inLine    bool       // we have a place: a commit comes that takes them along
	end       int64      // where the file ended when it was measured last
	head      frame.Head // the newest that we know of
	err       error      // why the agent must end
	name      string     // the agent's
	in        bool       // it has been in the fleet
	left      bool       // nothing is acknowledged any more
	held      string     // what holds the volume up, empty when nothing does
	since     time.Time  // since when
	busy      time.Time  // since when an operation of the volume is under way; zero when none is
	syncSince time.Time  // since when a sync is
	turns     int        // acknowledged
	records   int        // acknowledged
}

// entry is a turn that is committed and not acknowledged.
type entry struct {
	frame.Turn
	session    Session // which answered its commit, or confirmed it since
	connection uint64  // of that session
	written    bool    // into the file
	durable    bool    // and synced
}

// job is work that must be done by the scribe's goroutine.
type job struct {
	ctx    context.Context
	do     func(context.Context) error
	done   chan error
	synced synced // not a job, but a sync that has ended
}

func newScribe(a *Agent) *scribe {
	return &scribe{
		Agent: a, jobs: make(chan job), syncs: make(chan synced, 1), wake: make(chan struct{}, 1), moved: make(chan struct{}, 1),
		gone: make(chan struct{}), acking: make(chan struct{}, 1), watched: map[string]time.Time{}, waits: map[string]patience{},
	}
}

// begin starts the scribe's goroutine. fail is called when the agent must end. stop ends
// the goroutine, but for an operation of the volume that never returns: that one ends with
// the process.
func (s *scribe) begin(fail context.CancelCauseFunc) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	s.fail = fail
	go s.work(ctx) // ends with stop
	return func() {
		cancel()
		select {
		case <-s.gone:
		case <-time.After(s.limit()):
			s.Log.Error("an operation of the volume does not return", zap.String("file", s.File.Path))
		}
	}
}

// work goes on until ctx ends: jobs, rounds of writing, and now and then what others left.
func (s *scribe) work(ctx context.Context) {
	defer close(s.gone)
	defer s.File.Detach()
	tick := time.NewTimer(s.tick())
	defer tick.Stop()
	var again <-chan time.Time // when to try once more after trouble
	pause := firstPause
	for {
		j, what := s.event(ctx, again, tick.C)
		var err error
		switch what {
		case ending:
			return
		case asked:
			err = j.do(j.ctx)
			if errors.Is(err, errVolume) {
				s.failed(err)
			}
			j.done <- err
			continue
		case ticked:
			tick.Reset(s.tick())
			if again != nil {
				continue // what failed is tried again when its pause is over, not before
			}
			s.sweep(ctx)
		case ended:
			err = s.endSync(ctx, j.synced)
		}
		again = nil
		if err == nil {
			err = s.round(ctx)
		}
		if err != nil && ctx.Err() == nil {
			if again = s.excuse(err, pause); again == nil {
				return
			}
			pause = min(2*pause, lastPause)
		} else {
			pause = firstPause
		}
	}
}

const (
	firstPause = 50 * time.Millisecond // after a volume's first error, then doubled
	lastPause  = 5 * time.Second
)

// excuse tells when to try again after a round that failed; nil when the agent must end.
func (s *scribe) excuse(err error, pause time.Duration) <-chan time.Time {
	switch {
	case errors.Is(err, errVolume):
		s.failed(err)
	case s.mayComeRight(err):
		s.parted(err)
	case s.sess().Err() != nil || ofSession(err):
		pause = firstPause // another session comes
	default:
		s.give(err)
		return nil
	}
	return time.After(pause)
}

// failed is for when the volume failed: all that was written since the last good sync is
// written again, through a new descriptor. Another sync may say yes without having written.
func (s *scribe) failed(err error) {
	s.File.Detach()
	s.trouble = true
	s.holdUp(err)
}

// mayComeRight tells a refusal for which caches may be the reason, for as long as they may.
func (s *scribe) mayComeRight(err error) bool {
	var refused *writer.RefusedError
	if !errors.As(err, &refused) || !refused.Late || refused.Sure {
		return false
	}
	if s.File.Attached() && errors.Is(s.volume("look", s.File.Same), writer.ErrRefused) {
		return true // the path names another file than the one that is open: that one is looked at
	}
	if s.doubted.IsZero() {
		s.doubted = time.Now()
	}
	return time.Since(s.doubted) < s.File.Mode.Patience()
}

// ofSession tells an error that came with the end of a session, which may be the one
// before the one in use.
func ofSession(err error) bool {
	return errors.Is(err, session.ErrBroken) || errors.Is(err, session.ErrExpired) || errors.Is(err, session.ErrClosed)
}

// give gives up: the agent must end.
func (s *scribe) give(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	s.fail(err)
}

// errVolume is wrapped by every error of the volume: it may pass.
var errVolume = errors.New("the volume")

// volume runs an operation of the volume and notes when it began. What the volume says
// is wrapped; a refusal is not the volume's.
func (s *scribe) volume(what string, do func() error) error {
	s.begins(time.Now())
	err := do()
	s.begins(time.Time{})
	if err != nil && !errors.Is(err, writer.ErrRefused) {
		return fmt.Errorf("%w: %s: %w", errVolume, what, err)
	}
	return err
}

// begins notes since when an operation of the volume is under way; zero when none is.
func (s *scribe) begins(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = at
}

// parted is for when the path names another file than the one that is open, or what is
// open looks wrong: what was written may be in the wrong file, and is written again.
func (s *scribe) parted(err error) {
	s.Log.Warn("looking at the file again", zap.Error(err))
	s.File.Detach()
	s.trouble = true
}

// isOurs tells whether a turn is this process's.
func (s *scribe) isOurs(run uuid.UUID) bool { return run == s.run }
