package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/zkdev"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/store"
)

func demoCommand() *cobra.Command {
	var s settings
	var customers int
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See all of it in 10 seconds, with nothing but this program",
		Long: `Start a lock service inside this program, a database in a file, and two instances of the
service. Then: a transaction that succeeds, one that fails, and a stampede in which instances are
killed and paused. All of it is removed at the end.`,
		Example: `  tickets demo
  tickets demo --lock-type ephemeral_node`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			if customers < 30 || customers > 5000 {
				return misuse("--customers is %d: use 30 to 5000", customers)
			}
			return demo(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), s, customers)
		},
	}
	s.lockType(cmd.Flags())
	cmd.Flags().IntVar(&customers, "customers", 300, "how many customers want the ten tickets")
	return cmd
}

func demo(ctx context.Context, out, progress io.Writer, s settings, customers int) error {
	began := time.Now()
	dir, err := os.MkdirTemp("", "tickets-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s.Database = "sqlite:" + filepath.Join(dir, "tickets.db")
	s.ReserveFor, s.SessionTimeout = time.Second, time.Second
	what, stop, err := embed(&s)
	if err != nil {
		return err
	}
	defer stop()
	db, err := s.openStore()
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.Init(ctx, s.LockType, ticketNames("ticket", 3)); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s in this program, SQLite in %s, two instances; a reservation holds for %v\n", what, dir, s.ReserveFor)
	t, err := newTroupe(ctx, progress, s, 2)
	if err != nil {
		return err
	}
	defer t.end()
	if err := try(ctx, out, t.urls()[0], 15*time.Second, time.Minute); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nThe stampede: %d customers, ten tickets, and instances that are killed and paused\n", customers)
	r := &rush{
		urls: t.urls(), troupe: t, customers: customers, tickets: 10, walkAway: 0.2, within: time.Minute,
		db: db, out: out, progress: progress,
	}
	if err := r.run(ctx); err != nil {
		return err
	}
	if err := picture(ctx, out, db); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nfine: no ticket twice, nobody charged twice, with %s, in %.0f s\n", s.LockType, time.Since(began).Seconds())
	return nil
}

// embed starts a lock service of the kind that is set, and says where it is.
func embed(s *settings) (what string, stop func(), err error) {
	if s.LockType == locks.ZooKeeper {
		server, err := zkdev.Start("", s.SessionTimeout/2)
		if err != nil {
			return "", nil, err
		}
		s.ZooKeeper = server.Addr()
		return "ZooKeeper", func() { server.Close() }, nil
	}
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		return "", nil, err
	}
	s.Redis = "redis://" + server.Addr() + "/0"
	server.ClockTTL(true) // by itself its keys do not expire as time passes
	return "Redis", server.Close, nil
}

// picture draws the seats and who has them.
func picture(ctx context.Context, out io.Writer, db *store.Store) error {
	sales, err := db.Sales(ctx)
	if err != nil {
		return err
	}
	if len(sales) == 0 {
		return errors.New("nothing was sold")
	}
	fmt.Fprintln(out, "The seats, and the number of the customer who has each; alice is from the transaction above:")
	var top, name, bottom strings.Builder
	for i, sale := range sales {
		label := strings.TrimPrefix(sale.Client, "customer-")
		fmt.Fprintf(&top, "╭%s╮", strings.Repeat("─", len(label)+2))
		fmt.Fprintf(&name, "│ %s │", label)
		fmt.Fprintf(&bottom, "╰%s╯", strings.Repeat("─", len(label)+2))
		if i%6 == 5 || i == len(sales)-1 {
			fmt.Fprintf(out, "  %s\n  %s\n  %s\n", top.String(), name.String(), bottom.String())
			top.Reset()
			name.Reset()
			bottom.Reset()
		}
	}
	return nil
}
