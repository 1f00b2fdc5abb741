package fleet_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
)

// waits starts a source's Wait, which must not return yet.
func waits(t *testing.T, ctx context.Context, s fleet.Source) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Wait(ctx) }()
	select {
	case err := <-done:
		t.Fatalf("it does not wait: %v", err)
	case <-time.After(20 * time.Millisecond): // may pass what should fail, never the other way
	}
	return done
}

func goesOn(t *testing.T, done <-chan error, want error) {
	t.Helper()
	select {
	case err := <-done:
		if !errors.Is(err, want) {
			t.Errorf("it ended with %v, want %v", err, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits on")
	}
}

func TestATickerThatWaitsNoticesAnotherPace(t *testing.T) {
	tuner := fleet.NewTuner(fleet.Tuning{Pace: time.Hour, Lines: 2})
	ticker := &fleet.Ticker{Agent: func() string { return "me" }, Lines: 9, Turns: 3}
	ticker.Tune(tuner)
	if err := ticker.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(ticker.Take(1)); n != 2 || ticker.More() {
		t.Errorf("%d lines, more: %v", n, ticker.More())
	}
	ticker.Committed()
	ticker.Ack()
	done := waits(t, t.Context(), ticker)
	tuner.Set(fleet.Tuning{Pace: 2 * time.Hour, Lines: 2})
	tuner.Set(fleet.Tuning{Pace: 0, Lines: 5})
	goesOn(t, done, nil)
	if n := len(ticker.Take(2)); n != 5 || !ticker.More() {
		t.Errorf("%d lines, more: %v", n, ticker.More())
	}
	tuner.Set(fleet.Tuning{Pace: time.Hour, Lines: 5}) // while its turn is written
	ticker.Committed()
	ticker.Ack()
	done = waits(t, t.Context(), ticker)
	tuner.Set(fleet.Tuning{Pace: time.Millisecond, Lines: 5})
	goesOn(t, done, nil)
}

func TestLinesTakeAsManyAsTheyAreTold(t *testing.T) {
	tuner := fleet.NewTuner(fleet.Tuning{MaxRecords: 2})
	lines := fleet.NewLines(strings.NewReader(strings.Repeat("x\n", 50)), 10, 1<<20)
	defer lines.Stop()
	lines.Tune(tuner)
	taken := 0
	for most := 2; ; most = min(most*2, 7) {
		tuner.Set(fleet.Tuning{MaxRecords: most})
		if lines.Wait(t.Context()) != nil {
			break
		}
		n := len(lines.Take(1))
		if n > most {
			t.Errorf("%d records in a turn, want %d at most", n, most)
		}
		taken += n
		lines.Committed()
		lines.Ack()
	}
	if taken != 50 {
		t.Errorf("%d records, want 50", taken)
	}
}

func TestAPausedSourceHoldsStill(t *testing.T) {
	tuner := fleet.NewTuner(fleet.Tuning{Lines: 1, Paused: true})
	ticker := &fleet.Ticker{Agent: func() string { return "me" }}
	ticker.Tune(tuner)
	source := fleet.Pausable(ticker, tuner)
	if source.More() {
		t.Error("there is more while it is paused")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	done := waits(t, ctx, source)
	enough := errors.New("enough")
	cancel(enough)
	goesOn(t, done, enough)

	done = waits(t, t.Context(), source)
	tuner.Set(fleet.Tuning{Lines: 1})
	goesOn(t, done, nil)
	if !source.More() {
		t.Error("there is no more though it is not paused")
	}

	// Paused while it waits for its pace.
	source.Committed()
	source.Ack()
	tuner.Set(fleet.Tuning{Lines: 1, Pace: time.Hour})
	done = waits(t, t.Context(), source)
	tuner.Set(fleet.Tuning{Lines: 1, Paused: true})
	select {
	case err := <-done:
		t.Errorf("it goes on while it is paused: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	tuner.Set(fleet.Tuning{Lines: 1})
	goesOn(t, done, nil)
}
