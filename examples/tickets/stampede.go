package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
		Short: "A thousand customers on ten tickets: each ticket must be sold once",
		Long: `A thousand customers want ten tickets, through all instances. Some reserve and never come
back. With --spawn it starts instances itself, and kills and pauses them meanwhile. It makes
tickets of its own, and afterwards looks into the database: each ticket must be sold once, to
the customer who was told so.`,
		Example: `  tickets stampede --spawn 3                                    # on Redis and tickets.db
  LOCK_TYPE=ephemeral_node tickets stampede --spawn 3 --rounds 20
  tickets stampede --url http://localhost:6005 --customers 200  # kill and pause instances yourself`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			switch {
			case (spawn > 0) == (len(r.urls) > 0):
				return fmt.Errorf("%w: give either --url, of instances that run, or --spawn, how many to start", errUsage)
			case spawn == 1:
				return fmt.Errorf("%w: --spawn is 1: with 2 or more, one is left while another is killed", errUsage)
			case r.tickets < 1 || r.customers < r.tickets || rounds < 1 || r.walkAway < 0 || r.walkAway > 0.9:
				return fmt.Errorf("%w: there must be at least 1 ticket, as many customers as tickets, 1 round, and --walk-away from 0 to 0.9", errUsage)
			}
			db, err := s.openStore()
			if err != nil {
				return err
			}
			defer db.Close()
			r.db, r.lockType, r.out, r.progress = db, s.LockType, cmd.OutOrStdout(), cmd.ErrOrStderr()
			if spawn > 0 {
				if err := s.checkServices(); err != nil {
					return err
				}
				if err := db.Init(cmd.Context(), s.LockType, nil); err != nil {
					return err
				}
				if r.troupe, err = newTroupe(cmd.Context(), s, spawn); err != nil {
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
	flags.StringArrayVar(&r.urls, "url", nil, "an instance that runs, or what stands before several; may be given again")
	flags.IntVar(&spawn, "spawn", 0, "how many instances to start, and to kill and pause")
	flags.IntVar(&r.customers, "customers", 1000, "how many customers")
	flags.IntVar(&r.tickets, "tickets", 10, "how many tickets")
	flags.IntVar(&rounds, "rounds", 1, "how often")
	flags.Float64Var(&r.walkAway, "walk-away", 0.3, "which part of those who reserved never come back")
	flags.DurationVar(&r.within, "within", 2*time.Minute, "give a round up after so long")
	s.lockType(flags)
	s.database(flags)
	s.services(flags)
	flags.DurationVar(&s.ReserveFor, "reserve-for", time.Second, "with --spawn: how long a reservation holds")
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
	lockType  string
	db        *store.Store
	out       io.Writer
	progress  io.Writer
}

// outcome is what the customers of one round saw.
type outcome struct {
	mu     sync.Mutex
	told   map[string][]string // a ticket, and who was told that it is his
	waits  []time.Duration     // from a customer's first request to his last answer
	left   int                 // how many reserved, and never came back
	empty  int                 // how many saw all tickets sold
	sold   sync.Map            // tickets that somebody was told are sold
	nSold  atomic.Int64
	asked  atomic.Int64 // requests
	silent atomic.Int64 // requests without an answer
}

func (r *rush) run(ctx context.Context) error {
	names := ticketNames(fmt.Sprintf("rush-%08x", rand.Uint32()), r.tickets)
	if err := r.db.Init(ctx, r.lockType, names); err != nil {
		return fmt.Errorf("make the tickets: %w; is DATABASE_URL right?", err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.within)
	defer cancel()
	clients := make([]*client.Client, len(r.urls))
	for i, url := range r.urls {
		clients[i] = client.New(url, 5*time.Second)
		say := func(err error) { fmt.Fprintln(r.progress, "waiting for an instance:", err) }
		if err := insist(ctx, 30*time.Second, say, clients[i].Ready); err != nil {
			return err
		}
	}
	o := &outcome{told: map[string][]string{}}
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
	if ctx.Err() != nil {
		return fmt.Errorf("given up after %v: %d of %d tickets are sold", time.Since(began).Round(time.Second), o.nSold.Load(), r.tickets)
	}
	return r.judge(context.WithoutCancel(ctx), o, names, time.Since(began), faults)
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

type customer struct {
	name    string
	rush    *rush
	o       *outcome
	clients []*client.Client
	names   []string // the tickets, in the order in which he asks for them
}

// come asks for one ticket after the other until he has one, has walked away, or sees that all
// are sold.
func (c *customer) come(ctx context.Context) {
	began := time.Now()
	rand.Shuffle(len(c.names), func(i, j int) { c.names[i], c.names[j] = c.names[j], c.names[i] })
	for pause := 50 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, time.Second) {
		unsold := 0
		for _, ticket := range c.names {
			if _, sold := c.o.sold.Load(ticket); sold || ctx.Err() != nil {
				continue
			}
			unsold++
			switch c.want(ctx, ticket) {
			case bought:
				c.done(began, ticket, false)
				return
			case walkedAway:
				c.done(began, "", true)
				return
			}
		}
		if unsold == 0 && ctx.Err() == nil {
			c.done(began, "", false)
			return
		}
		rest(ctx, pause/2+rand.N(pause))
	}
}

type end int

const (
	notYet end = iota
	bought
	walkedAway
)

// want tries to reserve a ticket, and to book it.
func (c *customer) want(ctx context.Context, ticket string) end {
	a := c.ask(ctx, func(i *client.Client) (client.Answer, error) { return i.Reserve(ctx, ticket, c.name) })
	if a.Code() == "booked" {
		return c.booked(ticket)
	}
	if a.Status != http.StatusOK {
		return notYet
	}
	if rand.Float64() < c.rush.walkAway {
		return walkedAway
	}
	rest(ctx, 20*time.Millisecond+rand.N(300*time.Millisecond)) // he looks for his purse
	a = c.ask(ctx, func(i *client.Client) (client.Answer, error) { return i.Book(ctx, ticket, c.name) })
	switch {
	case a.Status == http.StatusOK:
		c.booked(ticket)
		return bought
	case a.Code() == "booked":
		return c.booked(ticket)
	}
	return notYet
}

// booked notes that a ticket is sold.
func (c *customer) booked(ticket string) end {
	if _, known := c.o.sold.LoadOrStore(ticket, true); !known {
		c.o.nSold.Add(1)
	}
	return notYet
}

// ask asks any instance, and another one when there is no answer, or when it cannot answer now.
func (c *customer) ask(ctx context.Context, do func(*client.Client) (client.Answer, error)) (a client.Answer) {
	for ctx.Err() == nil {
		c.o.asked.Add(1)
		a, err := do(c.clients[rand.IntN(len(c.clients))])
		if err == nil && a.Status < http.StatusInternalServerError {
			return a
		}
		c.o.silent.Add(1)
		rest(ctx, 50*time.Millisecond+rand.N(100*time.Millisecond))
	}
	return a
}

func (c *customer) done(began time.Time, ticket string, left bool) {
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	c.o.waits = append(c.o.waits, time.Since(began))
	switch {
	case ticket != "":
		c.o.told[ticket] = append(c.o.told[ticket], c.name)
	case left:
		c.o.left++
	default:
		c.o.empty++
	}
}

func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// judge compares what customers were told with what the database has.
func (r *rush) judge(ctx context.Context, o *outcome, names []string, took time.Duration, f *faults) error {
	sales, err := r.db.Sales(ctx)
	if err != nil {
		return err
	}
	charged := map[string][]string{} // a ticket, and who pays for it
	for _, s := range sales {
		charged[s.Ticket] = append(charged[s.Ticket], s.Client)
	}
	var wrong []string
	payers := map[string]string{}
	for _, name := range names {
		switch told, pays := o.told[name], charged[name]; {
		case len(pays) != 1:
			wrong = append(wrong, fmt.Sprintf("%s was sold %d times, to %v", name, len(pays), pays))
		case len(told) != 1 || told[0] != pays[0]:
			wrong = append(wrong, fmt.Sprintf("%s: %v pays, and %v were told that it is theirs", name, pays, told))
		case payers[pays[0]] != "":
			wrong = append(wrong, fmt.Sprintf("%s pays for %s and for %s, and wanted one", pays[0], payers[pays[0]], name))
		default:
			payers[pays[0]] = name
		}
	}
	if r.troupe != nil && f.kills+f.pauses == 0 {
		wrong = append(wrong, "no instance was killed or paused: that shows nothing; take more customers")
	}
	fmt.Fprintf(r.out, "%d of %d tickets sold, each once and to whom was told so, in %.1f s: %d customers, %d walked away, %d went home without; %d requests, %d of them without an answer",
		len(payers), len(names), took.Seconds(), r.customers, o.left, o.empty, o.asked.Load(), o.silent.Load())
	if r.troupe != nil {
		fmt.Fprintf(r.out, "; %d instances killed, %d paused", f.kills, f.pauses)
	}
	fmt.Fprintln(r.out)
	r.histogram(o.waits)
	if len(wrong) > 0 {
		return errors.New("WRONG:\n  " + strings.Join(wrong, "\n  "))
	}
	return nil
}

// histogram prints how long customers waited for their last answer.
func (r *rush) histogram(waits []time.Duration) {
	if len(waits) == 0 {
		return
	}
	slices.Sort(waits)
	at := func(p float64) time.Duration { return waits[int(p*float64(len(waits)-1))].Round(time.Millisecond) }
	fmt.Fprintf(r.out, "waiting: half %v, 90 %% %v, 99 %% %v, longest %v\n", at(0.5), at(0.9), at(0.99), at(1))
	const bars = 8
	step := max(waits[len(waits)-1]/bars+1, 1)
	var counts [bars]int
	for _, w := range waits {
		counts[w/step]++
	}
	most := slices.Max(counts[:])
	for i, n := range counts {
		fmt.Fprintf(r.out, "  up to %6.2f s %5d %s\n", (step * time.Duration(i+1)).Seconds(), n, strings.Repeat("█", (n*40+most-1)/most))
	}
}
