package main

import (
	"context"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/recipe/live"
)

// steering makes a running agent go by the fleet's configuration: where that says nothing,
// by its own.
type steering struct {
	own   config.Config
	level zap.AtomicLevel
	log   *zap.Logger
	tuner *fleet.Tuner
	begun bool // the agent writes, or was told to hold still
	set   bool // something that is not the agent's own was applied
}

func newSteering(own config.Config, level zap.AtomicLevel, log *zap.Logger) *steering {
	s := &steering{own: own, level: level, log: log}
	first := s.ownTuning()
	first.Paused = true
	s.tuner = fleet.NewTuner(first)
	return s
}

func (s *steering) ownTuning() fleet.Tuning {
	turn := s.own.Turn
	return fleet.Tuning{Pace: turn.Pace, Lines: turn.Lines, MaxRecords: turn.MaxRecords}
}

// source is a source that goes by the configuration.
func (s *steering) source(source fleet.Source) fleet.Source {
	if tuned, ok := source.(interface{ Tune(*fleet.Tuner) }); ok {
		tuned.Tune(s.tuner)
	}
	return fleet.Pausable(source, s.tuner)
}

// follow applies the configuration and each change of it until stop, which waits for its
// end. Until it has looked once the agent holds still, for its fleet may be paused.
func (s *steering) follow(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { // ends with ctx
		defer close(ended)
		err := followConfig(ctx, s.own, s.log.Named("config"), func(node live.Snapshot) {
			s.apply(fleetSchema().Value(node))
		}, func(err error) error {
			s.log.Warn("the fleet's configuration may change unnoticed until there is a ZooKeeper session again", zap.Error(err))
			s.begin()
			return nil
		})
		if ctx.Err() == nil {
			s.log.Error("the fleet's configuration is not followed any more: start the agent again when that is mended", zap.Error(err))
			s.begin()
		}
	}()
	return func() { cancel(); <-ended }
}

// begin lets the agent go by its own configuration, if it has not been told of another.
func (s *steering) begin() {
	if !s.begun {
		s.begun = true
		s.tuner.Set(s.ownTuning())
	}
}

// apply makes the agent go by v.
func (s *steering) apply(v live.Value) {
	if v.Damaged != nil {
		s.log.Warn("the fleet's configuration is damaged: going on as before; mend it with `agent config edit`", zap.Error(v.Damaged))
		s.begin()
		return
	}
	c, paused, err := readFleet(v.Settings)
	if err != nil {
		panic(err) // the schema has the same rules
	}
	has := func(name string) bool { _, ok := v.Settings[name]; return ok }
	next, level := s.ownTuning(), s.own.Log.Level
	next.Paused = paused
	if has("turn.pace") {
		next.Pace = c.Turn.Pace
	}
	if has("turn.max_records") {
		next.MaxRecords = c.Turn.MaxRecords
	}
	if has("turn.lines") {
		next.Lines = c.Turn.Lines
	}
	next.Lines = min(next.Lines, next.MaxRecords)
	if has("log.level") {
		level = c.Log.Level
	}
	s.begun = true
	s.told(v, level) // before anything is done by it
	s.tuner.Set(next)
}

// told tells of it at the level that is less strict, so that a change of the level itself
// is seen.
func (s *steering) told(v live.Value, level string) {
	to, err := zapcore.ParseLevel(level)
	if err != nil {
		panic(err) // config lets only levels through
	}
	s.level.SetLevel(min(s.level.Level(), to))
	switch {
	case !v.Exists && s.set:
		s.log.Warn("the fleet's configuration was deleted: going by our own")
	case v.Exists:
		s.log.Info("going by the fleet's configuration", zap.Int32("version", v.Version), zap.Stringer("settings", v.Settings))
	}
	s.set = v.Exists
	s.level.SetLevel(to)
}
