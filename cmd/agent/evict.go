package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/session"
)

func newEvict() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "evict [AGENT | PLACE]",
		Short: "Take the turn away from a stuck holder",
		Long: `Take the turn away from the agent that has it, or the named agent's place in the
queue. That is safe at any time: whoever loses its place can no longer commit, and what
is not committed is never written. A healthy agent queues again.

--wait waits until another turn is committed, or nobody is left who wants one: then the fleet goes
on. Exit 4 when neither is so in time.`,
		Example: `  agent evict                     whoever has the turn
  agent evict --wait 10s          and see that the fleet goes on
  agent evict agent-3             agent-3, wherever it stands in the queue
  agent evict 5f0c…-0000000042    a place, as ` + "`agent status --json`" + ` names it`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(cmd)
			if err == nil && wait < 0 {
				err = usageError{fmt.Errorf("--wait %v: give how long to wait, or 0", wait)}
			}
			if err != nil {
				return err
			}
			return withSession(cmd.Context(), c, newLog(c.Log, cmd.ErrOrStderr()), func(sess *session.Session) error {
				before, err := fleet.Head(cmd.Context(), sess, rootOf(c))
				if err != nil {
					return err
				}
				place, whose, err := findPlace(cmd.Context(), sess, c, args)
				if err != nil {
					return err
				}
				if err := filelock.Evict(cmd.Context(), sess, rootOf(c), place); err != nil {
					return err
				}
				if _, err = fmt.Fprintf(cmd.OutOrStdout(), "evicted %s\n", whose); err != nil || wait == 0 {
					return err
				}
				return goesOn(cmd, sess, c, before, wait)
			})
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait for this `DURATION` at most until the fleet goes on")
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "log")
	return cmd
}

// goesOn waits until a turn is committed that was not before, or nobody wants one.
func goesOn(cmd *cobra.Command, sess *session.Session, c config.Config, before *frame.Head, wait time.Duration) error {
	late := fmt.Errorf("no turn was committed within --wait %v; `agent status` shows who has the turn now", wait)
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), wait, late)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := fleet.Look(ctx, sess, rootOf(c), c.Fleet)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			return err
		case s.Head != nil && (before == nil || s.Head.Turn > before.Turn):
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "turn %d was committed since\n", s.Head.Turn)
			return err
		case s.Holder == nil && len(s.Waiting) == 0:
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "nobody is left who wants a turn")
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), late) {
				return said(cmd, exitBusy, late)
			}
			return context.Cause(ctx)
		}
	}
}

// findPlace resolves what the user named to a place in the queue.
func findPlace(ctx context.Context, sess *session.Session, c config.Config, args []string) (place, whose string, err error) {
	s, err := fleet.Look(ctx, sess, rootOf(c), c.Fleet)
	if err != nil {
		return "", "", err
	}
	if s.Holder == nil && len(s.Foreign) == 0 {
		return "", "", errors.New("nobody is in the queue")
	}
	if len(args) == 0 {
		if s.Holder == nil {
			return "", "", errors.New("nobody has the turn")
		}
		return s.Holder.Place, fmt.Sprintf("%s on %s, who had the turn", s.Holder.Agent, s.Holder.Host), nil
	}
	for _, foreign := range s.Foreign {
		if foreign == args[0] {
			return foreign, "the foreign node " + foreign, nil
		}
	}
	queue := s.Waiting
	if s.Holder != nil {
		queue = append([]fleet.Waiter{*s.Holder}, queue...)
	}
	for _, w := range queue {
		if args[0] == w.Agent || args[0] == w.Place {
			return w.Place, fmt.Sprintf("%s on %s", w.Agent, w.Host), nil
		}
	}
	return "", "", fmt.Errorf("%s is not in the queue; see `agent status`", args[0])
}
