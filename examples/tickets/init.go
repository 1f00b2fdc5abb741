package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/store"
)

func initCommand() *cobra.Command {
	var s settings
	var tickets int
	var within time.Duration
	var check bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the tables and the tickets, and record which LOCK_TYPE may sell",
		Long: `Make what is missing of the tables and of the tickets ticket-1, ticket-2 …, and record in the
database which LOCK_TYPE may sell. Instances with another one sell nothing from then on, and
reservations that they made are lost. It may be run again: what is sold stays sold, and no ticket
is deleted.`,
		Example: `  tickets init
  LOCK_TYPE=ephemeral_node DATABASE_URL=postgres://tickets:secret@db/tickets tickets init --tickets 200`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			if tickets < 0 || tickets > 100000 {
				return wrong("tickets", strconv.Itoa(tickets), "use 0 to 100000")
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
			var before, after standing
			err = insist(cmd.Context(), within, say, func(ctx context.Context) (err error) {
				if before, err = standingOf(ctx, db); err != nil && !errors.Is(err, store.ErrNotReady) {
					return err
				}
				if err = db.Init(ctx, s.LockType, ticketNames("ticket", tickets)); err == nil {
					after, err = standingOf(ctx, db)
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("%w; is DATABASE_URL right, and the database up?", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d tickets are there, %d of them new; %s sells", after.tickets, after.tickets-before.tickets, s.LockType)
			if was := before.LockType; was != "" && was != s.LockType {
				fmt.Fprintf(cmd.OutOrStdout(), " (was %s; its reservations are lost)", was)
			}
			fmt.Fprintln(cmd.OutOrStdout())
			return nil
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&tickets, "tickets", 10, "how many tickets there shall be at least")
	flags.DurationVar(&within, "wait", time.Minute, "how long to wait for the database")
	flags.BoolVar(&check, "check", false, "check the settings and connect to nothing")
	inEnvironment(flags, "tickets")
	s.lockType(flags)
	s.database(flags)
	return cmd
}

// standing is what a database has.
type standing struct {
	store.Selling
	tickets int
}

func standingOf(ctx context.Context, db *store.Store) (now standing, err error) {
	if now.Selling, err = db.Selling(ctx); err == nil {
		now.tickets, err = db.Count(ctx)
	}
	return now, err
}

func ticketNames(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s-%d", prefix, i+1))
	}
	return names
}
