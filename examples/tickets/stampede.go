package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/client"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/store"
)

func stampedeCommand() *cobra.Command {
	var s settings
	var r rush
	var spawn, rounds int
	cmd := &cobra.Command{
		Use:   "stampede",
		Short: "A test: a thousand customers on ten tickets; each must be sold once",
		Long: `A test, and not for the database of real customers. A thousand customers want ten tickets that
it makes, named rush-…, each through any instance. Some reserve and never come back. Afterwards
it looks into the database: each ticket must be sold once, to the customer who was told so.

With --spawn it starts instances itself, and kills and pauses them meanwhile; they end with it.
With --url it takes instances that run. DATABASE_URL must be their database then, and LOCK_TYPE
what they have; --within must be longer than twice their RESERVE_FOR, since a ticket whose
customer never comes back is free only then.

Its tickets that are sold stay in the database; those that are not are deleted at the end.`,
		Example: `  tickets stampede --spawn 3                      # on tickets.db and the Redis of localhost
  LOCK_TYPE=ephemeral_node tickets stampede --spawn 3 --rounds 20
  docker compose -f examples/tickets/compose.yml run --rm --no-deps ticket stampede --url http://front:6005 --within 10m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmp.Or(s.check(), r.check(cmd.Flags().Changed("spawn"), spawn, rounds)); err != nil {
				return err
			}
			db, err := s.openStore()
			if err != nil {
				return err
			}
			defer db.Close()
			r.db, r.out, r.progress = db, cmd.OutOrStdout(), cmd.ErrOrStderr()
			if spawn > 0 {
				if err := s.checkServices(); err != nil {
					return err
				}
			}
			if err := sells(cmd.Context(), db, s.LockType, spawn > 0); err != nil {
				return err
			}
			if spawn > 0 {
				if r.troupe, err = newTroupe(cmd.Context(), r.progress, s, spawn); err != nil {
					return err
				}
				defer r.troupe.end()
				r.urls = r.troupe.urls()
			}
			for round := 1; round <= rounds; round++ {
				if rounds > 1 {
					fmt.Fprintf(r.out, "round %d of %d: ", round, rounds)
				}
				if err := r.run(cmd.Context()); err != nil {
					return err
				}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&r.urls, "url", nil, "where a running instance is, or what stands before several: http://host:port; may be given again")
	flags.IntVar(&spawn, "spawn", 0, "how many instances to start, to kill and to pause; 2 or more")
	flags.IntVar(&r.customers, "customers", 1000, "how many customers come at once")
	flags.IntVar(&r.tickets, "tickets", 10, "how many tickets they want")
	flags.IntVar(&rounds, "rounds", 1, "how many stampedes, one after the other")
	flags.Float64Var(&r.walkAway, "walk-away", 0.3, "which part of those who reserved never come back, 0 to 0.9; from one ticket two at most")
	flags.DurationVar(&r.within, "within", 5*time.Minute, "give a stampede up after so long")
	s.lockType(flags)
	s.database(flags)
	s.services(flags)
	flags.DurationVar(&s.ReserveFor, "reserve-for", 5*time.Second, "with --spawn: how long a reservation holds")
	return cmd
}

// rush is a stampede.
type rush struct {
	urls      []string
	troupe    *troupe // nil when the instances are somebody else's
	customers int
	tickets   int
	walkAway  float64
	within    time.Duration
	db        *store.Store
	out       io.Writer
	progress  io.Writer
}

func (r *rush) check(spawns bool, spawn, rounds int) error {
	for _, url := range r.urls {
		if err := checkURL("url", url); err != nil {
			return err
		}
	}
	switch {
	case spawns == (len(r.urls) > 0):
		return misuse("use either --url, of instances that run, or --spawn, how many to start")
	case spawns && spawn < 2:
		return misuse("--spawn is %d: use 2 or more, so that one is left while another is killed", spawn)
	case r.tickets < 1:
		return misuse("--tickets is %d: use 1 or more", r.tickets)
	case r.customers < 3*r.tickets:
		return misuse("--customers is %d: use %d or more, three for each ticket: two of them may walk away", r.customers, 3*r.tickets)
	case rounds < 1:
		return misuse("--rounds is %d: use 1 or more", rounds)
	case r.walkAway < 0 || r.walkAway > 0.9:
		return misuse("--walk-away is %v: use 0 to 0.9", r.walkAway)
	case r.within <= 0:
		return misuse("--within is %v: use more than 0", r.within)
	}
	return nil
}

// sells makes sure that the database says of locks of a kind that they sell. A test does not
// change that: reservations would be lost. It may set up a database that nobody has.
func sells(ctx context.Context, db *store.Store, lockType string, mayInit bool) error {
	now, err := db.Selling(ctx)
	switch {
	case errors.Is(err, store.ErrNotReady) && mayInit:
		return db.Init(ctx, lockType, nil)
	case errors.Is(err, store.ErrNotReady):
		return misuse("the database has no tables: DATABASE_URL must be the database of the service at --url")
	case err != nil:
		return fmt.Errorf("the database does not answer: %w; is DATABASE_URL right?", err)
	case now.LockType != lockType:
		return misuse("the database says %s sells: set LOCK_TYPE=%s", now.LockType, now.LockType)
	}
	return nil
}

// errLate says that a round took too long.
var errLate = errors.New("too late")

func (r *rush) run(ctx context.Context) error {
	names := ticketNames(fmt.Sprintf("rush-%08x", rand.Uint32()), r.tickets)
	clients := make([]*client.Client, len(r.urls))
	for i, url := range r.urls {
		clients[i] = client.New(url, 5*time.Second)
		say := func(err error) { fmt.Fprintln(r.progress, "waiting for an instance:", err) }
		if err := insist(ctx, 30*time.Second, say, clients[i].Ready); err != nil {
			return fmt.Errorf("%s is not ready %w", url, err)
		}
	}
	if err := r.db.Add(ctx, names); err != nil {
		return fmt.Errorf("make the tickets: %w; is DATABASE_URL right?", err)
	}
	defer r.tidy(ctx, names)
	ctx, cancel := context.WithTimeoutCause(ctx, r.within, errLate)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	o := &outcome{told: map[string][]string{}, left: map[string]int{}, stop: stop}
	began := time.Now()
	faults, stopFaults := r.faults(ctx)
	var all sync.WaitGroup
	for n := range r.customers {
		c := &customer{name: fmt.Sprintf("customer-%d", n), rush: r, o: o, clients: clients, names: slices.Clone(names)}
		all.Go(func() { c.come(ctx) })
	}
	stopTelling := r.tell(ctx, o)
	all.Wait()
	stopTelling()
	stopFaults()
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errLate):
		return r.late(o)
	case cause != nil:
		return cause
	}
	return r.judge(context.WithoutCancel(ctx), o, names, time.Since(began), faults)
}

// tidy deletes the tickets that were not sold.
func (r *rush) tidy(ctx context.Context, names []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := r.db.Remove(ctx, names); err != nil {
		fmt.Fprintf(r.progress, "tickets %s … may be left in the database: %v\n", names[0], err)
	}
}

// late says what is missing, and what to do.
func (r *rush) late(o *outcome) error {
	why := "nobody could reserve one: look into the instances' logs"
	if held := o.held.Round(time.Second); held > 0 {
		why = fmt.Sprintf("the others may be reserved by customers who walked away, for %v each: --within must be longer than twice RESERVE_FOR", held)
	}
	return fmt.Errorf("given up after %v (--within): %d of %d tickets are sold, %d of %d requests had no answer; %s",
		r.within, o.nSold.Load(), r.tickets, o.silent.Load(), o.asked.Load(), why)
}

// faults has instances killed and paused until the function that it gives is called.
func (r *rush) faults(ctx context.Context) (f *faults, stop func()) {
	f = &faults{}
	if r.troupe == nil {
		return f, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { // ends with stop
		defer close(ended)
		r.troupe.harass(ctx, f)
	}()
	return f, func() { cancel(); <-ended }
}

// tell prints every two seconds how it stands, until the function that it gives is called.
func (r *rush) tell(ctx context.Context, o *outcome) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { // ends with stop
		defer close(ended)
		ticker := time.NewTicker(2 * time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				fmt.Fprintf(r.progress, "  %d of %d tickets sold, %d requests\n", o.nSold.Load(), r.tickets, o.asked.Load())
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-ended }
}
