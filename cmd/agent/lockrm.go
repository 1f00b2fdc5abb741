package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/recipe/lock"
	"github.com/turnstile-fleet/turnstile/session"
)

func newLockRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rm NAME...",
		Short: "Remove what is left of locks that nobody has",
		Long: `Remove the nodes of locks that nobody has or waits for: a lock with slots keeps their number,
and a crash leaves an empty line. A lock that is in use is left alone (exit 4).`,
		Example: `  agent lock rm nightly
  agent lock rm $(agent lock ls --json | jq -r '.[] | select(.holders == []).name')`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				if err := checkName("lock", name); err != nil {
					return err
				}
			}
			return withCommandSession(cmd, func(sess *session.Session, c config.Config) error {
				busy := false
				for _, name := range args {
					err := lock.Remove(cmd.Context(), sess, lockDir(c, name))
					switch {
					case errors.Is(err, lock.ErrBusy):
						busy = true
						fmt.Fprintf(cmd.ErrOrStderr(), "agent: lock %s is in use; `agent lock show %s` tells by whom\n", name, name)
					case err != nil:
						return fmt.Errorf("remove lock %s: %w", name, err)
					}
				}
				if busy {
					return silentError{exitBusy}
				}
				return nil
			})
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "log")
	return cmd
}
