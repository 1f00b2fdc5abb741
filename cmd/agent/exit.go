package main

import (
	"errors"
	"strings"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/intake"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// The exit codes, as `agent help` and the README list them.
const (
	exitFine    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitFaults  = 3
	exitBusy    = 4
	exitLost    = 5
	exitRefused = 6
)

// usageError is the user's to mend: arguments, settings, input.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// silentError ends the process with a code when everything was said already.
type silentError struct{ code int }

func (silentError) Error() string { return "said already" }

func exitCode(err error) int {
	var silent silentError
	var usage usageError
	var record *intake.RecordError
	switch {
	case err == nil:
		return exitFine
	case errors.As(err, &silent):
		return silent.code
	case errors.As(err, &usage), errors.As(err, &record), isUnknownCommand(err):
		return exitUsage
	case errors.Is(err, writer.ErrRefused):
		return exitRefused
	case errors.Is(err, filelock.ErrLost):
		return exitLost
	default:
		return exitFailed
	}
}

// isUnknownCommand recognises the one usage error that cobra makes by itself.
func isUnknownCommand(err error) bool { return strings.HasPrefix(err.Error(), "unknown command") }
