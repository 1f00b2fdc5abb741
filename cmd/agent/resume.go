package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/session"
)

func newResume() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "Lift a halt, after its cause was mended",
		Long: `Lift a halt. An agent halts the fleet when the disk did not confirm a write. Find
out why first: it is in the answer, and in ` + "`agent status`" + `.`,
		Example: "  agent resume --fleet audit",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			return withSession(cmd.Context(), c, newLog(c.Log, cmd.ErrOrStderr()), func(sess *session.Session) error {
				was, err := filelock.Resume(cmd.Context(), sess, rootOf(c))
				if err != nil {
					return err
				}
				if was == nil {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "fleet %s was not halted\n", c.Fleet)
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "fleet %s goes on; it was halted by %s: %s\n", c.Fleet, was.Who, was.Why)
				return err
			})
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "log")
	return cmd
}
