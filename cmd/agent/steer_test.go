package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/recipe/live"
)

// steered is an agent of pace 1m, 3 lines, at most 10 records, that logs warnings.
func steered(t *testing.T) (s *steering, told func() string) {
	c, err := config.Load(nil, []string{
		"TURNSTILE_TURN_PACE=1m", "TURNSTILE_TURN_MAX_RECORDS=10", "TURNSTILE_LOG_LEVEL=warn",
	})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	logger, level := newLeveledLog(c.Log, &log)
	return newSteering(c, level, logger), func() string {
		defer log.Reset()
		return log.String()
	}
}

func node(text string) live.Value {
	return fleetSchema().Value(live.Snapshot{Exists: true, Data: []byte(text)})
}

func TestAnAgentGoesByTheFleetsConfigurationAndElseByItsOwn(t *testing.T) {
	s, told := steered(t)
	own := fleet.Tuning{Pace: time.Minute, Lines: 3, MaxRecords: 10}
	held := own
	held.Paused = true
	for i, c := range []struct {
		value live.Value
		want  fleet.Tuning
		level string
		told  string
	}{
		{fleetSchema().Value(live.Snapshot{}), own, "warn", ""},
		{node(`{"turn.pace":"1s","paused":true}`), fleet.Tuning{Pace: time.Second, Lines: 3, MaxRecords: 10, Paused: true}, "warn", ""},
		{node(`{"turn.lines":5,"log.level":"debug"}`), fleet.Tuning{Pace: time.Minute, Lines: 5, MaxRecords: 10}, "debug", "going by"},
		{node(`{"turn.lines":500,"log.level":"error"}`), fleet.Tuning{Pace: time.Minute, Lines: 10, MaxRecords: 10}, "error", "going by"},
		{node(`{"turn.max_records":2}`), fleet.Tuning{Pace: time.Minute, Lines: 2, MaxRecords: 2}, "warn", ""},
		{node(`{"turn.max_records":`), fleet.Tuning{Pace: time.Minute, Lines: 2, MaxRecords: 2}, "warn", "is damaged"},
		{node(`{"paused":"perhaps"}`), fleet.Tuning{Pace: time.Minute, Lines: 2, MaxRecords: 2}, "warn", "is damaged"},
		{fleetSchema().Value(live.Snapshot{}), own, "warn", "was deleted"},
		{fleetSchema().Value(live.Snapshot{}), own, "warn", ""},
	} {
		if got, _ := s.tuner.Get(); i == 0 && got != held {
			t.Errorf("before it has looked: %+v, want %+v", got, held)
		}
		s.apply(c.value)
		if got, _ := s.tuner.Get(); got != c.want {
			t.Errorf("%d: %+v, want %+v", i, got, c.want)
		}
		if got := s.level.String(); got != c.level {
			t.Errorf("%d: level %s, want %s", i, got, c.level)
		}
		if got := told(); !strings.Contains(got, c.told) || c.told == "" && got != "" {
			t.Errorf("%d: told %q, want %q", i, got, c.told)
		}
	}
}

func TestAnAgentThatFindsDamageBeginsByItsOwn(t *testing.T) {
	s, told := steered(t)
	s.apply(node("nonsense"))
	if got, _ := s.tuner.Get(); got.Paused || got.Pace != time.Minute {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(told(), "is damaged") {
		t.Error("it is not told")
	}
	s.apply(node(`{"paused":true}`))
	s.begin() // as when the session ends
	if got, _ := s.tuner.Get(); !got.Paused {
		t.Error("a paused agent goes on when its session ends")
	}
}
