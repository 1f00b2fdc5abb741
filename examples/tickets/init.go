package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func initCommand() *cobra.Command {
	var s settings
	var tickets int
	var within time.Duration
	var check bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the tables and the tickets, and say which kind of lock sells",
		Long: `Make what is missing of the tables and of the tickets ticket-1, ticket-2 …, and say to the
database which kind of lock sells. Instances with another LOCK_TYPE sell nothing from then on,
and reservations that they made are lost. It may be run again: nothing that is sold changes.`,
		Example: `  tickets init
  LOCK_TYPE=ephemeral_node DATABASE_URL=postgres://tickets:secret@db/tickets tickets init --tickets 200`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			if tickets < 0 || tickets > 100000 {
				return fmt.Errorf("%w: --tickets (TICKETS) is %d: use 0 to 100000", errUsage, tickets)
			}
			if check {
				return s.tryOpen(cmd.OutOrStdout())
			}
			db, err := s.openStore()
			if err != nil {
				return err
			}
			defer db.Close()
			say := func(err error) { fmt.Fprintln(cmd.ErrOrStderr(), "waiting for the database:", err) }
			err = insist(cmd.Context(), within, say, func(ctx context.Context) error {
				return db.Init(ctx, s.LockType, ticketNames("ticket", tickets))
			})
			if err != nil {
				return fmt.Errorf("%w; is DATABASE_URL right, and the database up?", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the tables and %d tickets are there; %s sells\n", tickets, s.LockType)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&tickets, "tickets", 10, "how many tickets there are")
	flags.DurationVar(&within, "wait", time.Minute, "how long to wait for the database")
	flags.BoolVar(&check, "check", false, "check the settings and connect to nothing")
	s.lockType(flags)
	s.database(flags)
	return cmd
}

func ticketNames(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s-%d", prefix, i+1))
	}
	return names
}
