package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/follow"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// How those beside a fleet read its file: verify, audit, cat and the demo.

// lookAgain is for how long a committed byte that is not to be seen is looked for again.
const lookAgain = 10 * time.Second

// openShared opens the fleet's file as its volume must be read to be read fresh.
func openShared(c config.Config) (*writer.Reader, error) {
	kind, err := volumeOf(c)
	if err != nil { // no reason not to read
		kind.Mode = writer.Plain
	}
	return writer.OpenReader(c.Data.File, kind.Mode)
}

// openToVerify is openShared for the verifier.
func openToVerify(c config.Config) func(path string) (verify.Source, error) {
	return func(path string) (verify.Source, error) {
		c.Data.File = path
		r, err := openShared(c)
		if err != nil {
			return nil, err // and no Source that holds nil
		}
		return r, nil
	}
}

// holdToFleet has the verifier hold the file to what ZooKeeper says: head, then the turns'
// nodes, then the file, then head again. with runs a question in a session.
func holdToFleet(ask *verify.Options, root filelock.Root, with func(context.Context, func(filelock.Session) error) error) {
	ask.Head = func(ctx context.Context) (head *frame.Head, err error) {
		err = with(ctx, func(sess filelock.Session) error {
			head, err = follow.Head(ctx, sess, root)
			return err
		})
		return head, err
	}
	ask.Turns = func(ctx context.Context, head frame.Head) (turns []frame.Turn, doubts []error, err error) {
		err = with(ctx, func(sess filelock.Session) error {
			turns, doubts, err = follow.Turns(ctx, sess, root, head, 0)
			return err
		})
		return turns, doubts, err
	}
	ask.Final = func(ctx context.Context) (head *frame.Head, err error) {
		err = with(ctx, func(sess filelock.Session) error {
			head, err = follow.Final(ctx, sess, root)
			return err
		})
		return head, err
	}
}

// besideRefused ends a command that reads beside a fleet, with the next step to take.
func besideRefused(cmd *cobra.Command, err error) error {
	switch {
	case errors.Is(err, frame.ErrFormat):
		return said(cmd, exitRefused, fmt.Errorf("%w; use the program that the fleet runs, or stop the fleet and run `agent adopt` with this one", err))
	case errors.Is(err, follow.ErrMissing), errors.Is(err, follow.ErrAdopted):
		return said(cmd, exitRefused, err)
	}
	return err
}
