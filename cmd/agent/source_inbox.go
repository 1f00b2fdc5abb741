package main

import (
	"context"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/lifeline"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/inbox"
	"github.com/turnstile-fleet/turnstile/session"
)

func inboxOf(c config.Config) inbox.Dir { return inbox.Dir(string(rootOf(c)) + "/inbox") }

// inboxSource is `--source inbox`.
type inboxSource struct {
	*inbox.Source
	most  int
	tuner *fleet.Tuner // has its say over most, when set
}

// newInboxSource gives the source; who is asked whenever it takes a place.
func newInboxSource(c config.Config, opts runOptions, who func() queue.Member, log *zap.Logger) (source fleet.Source, stop func()) {
	s := &inboxSource{most: c.Turn.MaxRecords}
	s.Source = inbox.NewSource(inbox.SourceOptions{
		Dial: func(ctx context.Context) (*session.Session, error) { return dial(ctx, c, log.Named("inbox")) },
		Dir:  inboxOf(c),
		Who:  who,
		// Beneath the agents' own, which the agents sweep.
		Lives:      lifeline.Dir(c.Data.File + ".alive/inbox"),
		Run:        uuid.NewString(),
		MaxRecords: s.maxRecords,
		MaxBytes:   c.Turn.MaxBytes,
		Turns:      opts.turns,
		Log:        log.Named("inbox"),
	})
	return s, s.Close
}

// Tune makes the most records of a turn follow tuner.
func (s *inboxSource) Tune(tuner *fleet.Tuner) { s.tuner = tuner }

func (s *inboxSource) maxRecords() int {
	if s.tuner == nil {
		return s.most
	}
	now, _ := s.tuner.Get()
	return now.MaxRecords
}
