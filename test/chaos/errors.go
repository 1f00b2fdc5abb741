package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	// errRejected says that a round proves nothing: the fault never fired, or the fleet
	// hardly wrote. It is run again.
	errRejected = errors.New("rejected")
	// errSlow is wrapped when what was waited for did not happen in time.
	errSlow = errors.New("not in time")
)

func rejected(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errRejected, fmt.Errorf(format, args...))
}

// orRejected makes of a wait that was too long a round that proves nothing.
func orRejected(err error) error {
	if errors.Is(err, errSlow) {
		return fmt.Errorf("%w: %w", errRejected, err)
	}
	return err
}

// poll is how often within looks: what it waits for are other processes' files,
// states and answers, which tell of no events.
const poll = 10 * time.Millisecond

// within looks until it holds, at most for the time given. what says what is waited
// for, as a sentence that is to become true.
func within(ctx context.Context, limit time.Duration, what string, holds func() bool) error {
	err := until(ctx, limit, func() (bool, error) { return holds(), nil })
	if err != nil {
		return fmt.Errorf("%w: %s", err, what)
	}
	return nil
}

// until is within for a condition that can fail for good.
func until(ctx context.Context, limit time.Duration, holds func() (bool, error)) error {
	end := time.Now().Add(limit)
	for {
		// Looked at once more after the limit: our own process may have been starved.
		late := time.Now().After(end)
		done, err := holds()
		switch {
		case err != nil:
			return err
		case done:
			return nil
		case late:
			return fmt.Errorf("%w (%v)", errSlow, limit)
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
