package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// SourceOptions for a Source. All but Turns, Lives and Log are required.
type SourceOptions struct {
	Dial func(context.Context) (*session.Session, error)
	Dir  Dir
	Who  func() queue.Member // asked whenever a place in the takers' line is taken

	Lives queue.Lifelines // nil: the death of the first taker is noticed when its session expires
	Run   string          // names this process's life

	MaxRecords func() int // a turn, at most; asked at each
	MaxBytes   int        // a turn, newlines included, at most; the longest record fits
	Turns      int        // how many, 0: no end

	Log *zap.Logger
}

// Source gives an agent the inbox's messages to write: it is a fleet.Source. It has a
// session of its own, with which it stands in the takers' line and reads; what was written
// is deleted by the transaction with which the agent commits it.
//
// That the session ends, that the place in the line is lost, or that somebody else took a
// message are everyday events: the next Wait begins afresh.
type Source struct {
	SourceOptions
	life   *queue.Life
	sess   *session.Session
	taker  *Taker
	loaded []Message
	given  int // of loaded, how many Take handed out; above 0 until Committed or Back

	gone   int             // how many messages of this turn turned out to be gone
	done   map[string]bool // messages that were written, but may still be listed
	behind bool            // what we read was not the newest, or somebody interfered
	worked bool            // since we are the first in the line
	turns  int
}

// NewSource gives a source. It does nothing until Wait.
func NewSource(opts SourceOptions) *Source {
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	return &Source{SourceOptions: opts, done: map[string]bool{}}
}

// Wait blocks until we are the first in the takers' line and a message is there. io.EOF
// says that all turns were taken, session.ErrExpired that our session is over: Wait again.
func (s *Source) Wait(ctx context.Context) error {
	if s.Turns > 0 && s.turns >= s.Turns {
		return io.EOF
	}
	if s.life == nil {
		s.life = queue.BeginLife(s.Lives, s.Run, s.Log)
	}
	for {
		err := s.load(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, queue.ErrLost):
			s.Log.Warn("our place at the inbox was removed, queueing again", zap.Error(err))
		case s.sess == nil && errors.Is(err, session.ErrUnavailable):
			s.Log.Warn("not reading the inbox: no ZooKeeper session", zap.Error(err))
		case s.sess != nil && s.sess.Err() != nil:
			// The agent's is as good as lost: it is to ask for a new one, and enter the
			// fleet again, though there may be nothing to write for days.
			err = fmt.Errorf("read the inbox: %w", s.sess.Err())
			s.leave()
			return err
		default:
			return err
		}
		s.leave()
		select { // jitter, for all agents lose their sessions together
		case <-time.After(rand.N(250 * time.Millisecond)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// load waits for messages within one session.
func (s *Source) load(ctx context.Context) (err error) {
	if s.taker == nil || s.taker.Context().Err() != nil {
		if err := s.enter(ctx); err != nil {
			return err
		}
	}
	if len(s.loaded) > 0 {
		return nil
	}
	for {
		if s.behind {
			if err := queue.Barrier(ctx, s.sess, s.Dir.Messages()); err != nil {
				return fmt.Errorf("look at the inbox afresh: %w", err)
			}
			s.behind = false
		}
		s.loaded, err = s.taker.Load(ctx, s.MaxRecords(), s.MaxBytes, s.done)
		if err != nil || len(s.loaded) > 0 {
			return err
		}
		if err := s.moveOn(ctx); err != nil {
			return err
		}
	}
}

// moveOn is for when the inbox is empty: who has worked goes to the end of the line, if
// anybody else is in it, so that all get work; else we wait for a message.
func (s *Source) moveOn(ctx context.Context) error {
	if s.worked {
		s.worked = false
		contended, err := s.taker.Contended(ctx)
		if err != nil {
			return err
		}
		if contended {
			s.taker.Close()
			return s.enter(ctx)
		}
	}
	return s.taker.Changed(ctx)
}

// enter waits until we are the first in the line, after getting a session if need be.
// What another may have taken meanwhile is forgotten.
func (s *Source) enter(ctx context.Context) (err error) {
	s.taker, s.loaded, s.worked = nil, nil, false
	if s.sess != nil && s.sess.Err() != nil {
		s.sess.Close()
		s.sess = nil
	}
	if s.sess == nil {
		if s.sess, err = s.Dial(ctx); err != nil {
			s.sess = nil
			return err
		}
	}
	who := s.Who()
	who.Since, who.Life = time.Now().UTC(), s.life.Name()
	s.life.Sweep(func() ([]string, error) { return takersLives(ctx, s.sess, s.Dir) })
	s.taker, err = NewTaker(ctx, s.sess, s.Dir, who, s.life.Watch, s.Log)
	return err
}

// leave gives up what is lost.
func (s *Source) leave() {
	if s.taker != nil {
		s.taker.Close()
		s.taker = nil
	}
	if s.sess != nil && s.sess.Err() != nil {
		s.sess.Close()
		s.sess = nil
	}
}

// takersLives lists by what the deaths of those in the takers' line are noticed.
func takersLives(ctx context.Context, sess *session.Session, dir Dir) (names []string, err error) {
	entries, err := queue.Look(ctx, sess, dir.Takers())
	for _, e := range entries {
		names = append(names, e.Life)
	}
	return names, err
}

// Take gives the records of the messages that come first, as many as a turn may have.
func (s *Source) Take(uint64) [][]byte {
	var records [][]byte
	size, most := 0, s.MaxRecords()
	for _, m := range s.loaded {
		if size += len(m.Record) + 1; len(records) == most || len(records) > 0 && size > s.MaxBytes {
			break
		}
		records = append(records, m.Record)
	}
	s.given = len(records)
	return records
}

// With gives the operations that take those messages out of the inbox.
func (s *Source) With() []any {
	ops := make([]any, s.given)
	for i, m := range s.loaded[:s.given] {
		ops[i] = m.Delete()
	}
	return ops
}

// More tells whether more was loaded than Take gave.
func (s *Source) More() bool {
	return len(s.loaded) > s.given && (s.Turns == 0 || s.turns+1 < s.Turns) && s.taker != nil && s.taker.Context().Err() == nil
}

// Committed tells that what Take gave is no longer in the inbox: it must not be handed
// out again, though a server that lags behind may still list it.
func (s *Source) Committed() {
	for _, m := range s.loaded[:s.given] {
		s.done[m.Name] = true
	}
	s.loaded, s.given, s.gone, s.worked = s.loaded[s.given:], 0, 0, true
	s.turns++
}

// Back tells that what Take gave was not committed. What we have read may be old: it is
// read anew.
func (s *Source) Back() { s.given, s.behind = 0, true }

// mostGone is how many messages of one turn may turn out to be gone. Beyond that somebody
// takes what we take, and to find out which are left, one commit for each, would take long.
const mostGone = 3

// Gone forgets a message that somebody else took, or changed: then it is read again.
func (s *Source) Gone(at int) bool {
	if s.gone++; s.gone > mostGone || s.taker == nil || s.taker.Context().Err() != nil {
		s.loaded, s.gone = nil, 0
	}
	if at >= 0 && at < len(s.loaded) {
		s.loaded = slices.Delete(slices.Clone(s.loaded), at, at+1)
	}
	return len(s.loaded) > 0
}

// Ack is of no interest: what is committed is in the file, or will be.
func (s *Source) Ack() {}

// Close leaves the line and ends the session. It takes a second at most.
func (s *Source) Close() {
	if s.taker != nil {
		s.taker.Close()
	}
	if s.sess != nil {
		s.sess.Close()
	}
	if s.life != nil {
		s.life.End()
	}
}
