package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/session"
)

func newEvict() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "evict [AGENT | PLACE]",
		Short: "Take the turn away from a stuck holder",
		Long: `Take the turn away from the agent that has it, or the named agent's place in the
queue. That is safe at any time: whoever loses its place can no longer commit, and what
is not committed is never written. A healthy agent queues again.`,
		Example: `  agent evict                     whoever has the turn
  agent evict agent-3             agent-3, wherever it stands in the queue
  agent evict 5f0c…-0000000042    a place, as ` + "`agent status --json`" + ` names it`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			return withSession(cmd.Context(), c, newLog(c.Log, cmd.ErrOrStderr()), func(sess *session.Session) error {
				place, whose, err := findPlace(cmd.Context(), sess, c, args)
				if err != nil {
					return err
				}
				if err := filelock.Evict(cmd.Context(), sess, rootOf(c), place); err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "evicted %s\n", whose)
				return err
			})
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "log")
	return cmd
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
