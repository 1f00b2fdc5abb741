package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// signalError is the signal that told us to stop.
type signalError struct{ syscall.Signal }

func (e signalError) Error() string { return e.String() + " signal received" }

// Is makes it a cancelled context's error.
func (e signalError) Is(target error) bool { return target == context.Canceled }

// code is the exit code that shells give to who was ended by it.
func (e signalError) code() int { return 128 + int(e.Signal) }

// untilTold is done when the first SIGINT, SIGTERM or SIGHUP comes, with a signalError as its
// cause. A second one ends the process at once: the first may have met a bug. What whoever
// started us had ignored (nohup, a shell's &) stays ignored.
func untilTold(ctx context.Context) (told context.Context, stop func()) {
	signals := make(chan os.Signal, 1)
	for _, sig := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(signals, sig)
		}
	}
	told, cancel := context.WithCancelCause(ctx)
	go func() { // ends with the first signal, or with stop
		select {
		case sig := <-signals:
			signal.Stop(signals)
			cancel(signalError{sig.(syscall.Signal)})
		case <-told.Done():
		}
	}()
	return told, func() {
		signal.Stop(signals)
		cancel(context.Canceled)
	}
}

// catchSignals takes over what else would end or stop us, and what a command may want. What
// was ignored when we were started (nohup) stays so.
func catchSignals() chan os.Signal {
	signals := make(chan os.Signal, 16)
	for _, sig := range []syscall.Signal{
		unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGWINCH,
	} {
		if !signal.Ignored(sig) {
			signal.Notify(signals, sig)
		}
	}
	return signals
}

// toldBefore is an error when we were told to stop before catchSignals took over: nobody
// will hear of that again, so that no command may be run any more.
func toldBefore(cmd *cobra.Command) error {
	if cmd.Context().Err() == nil {
		return nil
	}
	why, code := context.Cause(cmd.Context()), exitFailed
	var sig signalError
	if errors.As(why, &sig) {
		code = sig.code()
	}
	return said(cmd, code, fmt.Errorf("%w; the command was not run", why))
}
