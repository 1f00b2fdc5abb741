package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	neturl "net/url"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/client"
)

func tryCommand() *cobra.Command {
	var url string
	var wait, longest time.Duration
	cmd := &cobra.Command{
		Use:   "try",
		Short: "Try a running service: a transaction that succeeds, and one that fails",
		Long: `Try a running service: a transaction that succeeds, and one that fails. Each step says what
was sent, what came, and what was expected.

It uses up tickets: each run books one, and reserves another. To see a reservation expire it waits
for as long as one holds: with the service's default that is two minutes. --longest 0 leaves
that out.`,
		Example: `  tickets try                                        # the service at http://localhost:6005
  tickets try --longest 0                            # at once: no reservation expires
  tickets try --url http://localhost:6006`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkURL("url", url); err != nil {
				return err
			}
			return try(cmd.Context(), cmd.OutOrStdout(), url, wait, longest)
		},
	}
	cmd.Flags().StringVar(&url, "url", "http://localhost:6005", "where the service is: http://host:port")
	cmd.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait until the service is ready")
	cmd.Flags().DurationVar(&longest, "longest", 3*time.Minute, "leave out that a reservation expires when that takes longer")
	return cmd
}

// trial is one run of the scenarios.
type trial struct {
	ctx    context.Context
	out    io.Writer
	c      *client.Client
	failed int
}

func try(ctx context.Context, out io.Writer, url string, wait, longest time.Duration) error {
	t := &trial{ctx: ctx, out: out, c: client.New(url, 15*time.Second)}
	say := func(err error) { fmt.Fprintln(out, "waiting for the service:", err) }
	if err := insist(ctx, wait, say, t.c.Ready); err != nil {
		next := ""
		if unheard := new(neturl.Error); errors.As(err, &unheard) {
			next = "; is it running (tickets serve)?"
		}
		return fmt.Errorf("%s is not ready %w%s", url, err, next)
	}
	began, err := t.c.Available(ctx)
	if err != nil {
		return err
	}
	if began.Reply.Available == nil || len(*began.Reply.Available) < 2 {
		return fmt.Errorf("%s has fewer than 2 tickets that are available (%s): `tickets init --tickets 100` makes more", url, began.Body)
	}
	free := *began.Reply.Available
	me := fmt.Sprintf("alice-%d", os.Getpid())
	other := fmt.Sprintf("bob-%d", os.Getpid())

	t.say("The successful transaction")
	t.step("the ticket is listed", func() (client.Answer, error) { return t.c.Available(ctx) }, lists(free[0], true))
	t.step("reserve it", func() (client.Answer, error) { return t.c.Reserve(ctx, free[0], me) }, ok)
	t.step("it is not listed any more", func() (client.Answer, error) { return t.c.Available(ctx) }, lists(free[0], false))
	t.step("book it", func() (client.Answer, error) { return t.c.Book(ctx, free[0], me) }, ok)
	t.step("it is booked", func() (client.Answer, error) { return t.c.Ticket(ctx, free[0]) }, is("booked"))

	t.say("The failed transaction")
	t.step("book without reserving", func() (client.Answer, error) { return t.c.Book(ctx, free[1], me) }, refused("not_reserved"))
	held := t.step("somebody else reserves it", func() (client.Answer, error) { return t.c.Reserve(ctx, free[1], other) }, ok)
	until := time.Now().Add(time.Duration(held.Reply.ExpiresIn * float64(time.Second)))
	t.step("reserve what is somebody else's", func() (client.Answer, error) { return t.c.Reserve(ctx, free[1], me) }, refused("reserved"))
	t.step("book what is somebody else's", func() (client.Answer, error) { return t.c.Book(ctx, free[1], me) }, refused("not_reserved"))
	t.step("book what is sold", func() (client.Answer, error) { return t.c.Book(ctx, free[0], other) }, refused("booked"))
	t.step("a ticket that does not exist", func() (client.Answer, error) { return t.c.Reserve(ctx, "no-such-ticket", me) }, refused("unknown_ticket"))
	if left := time.Until(until); left > longest {
		fmt.Fprintf(out, "  left out: a reservation that expires: it holds for %v, and --longest is %v\n", left.Round(time.Second), longest)
	} else if err := t.waitUntil(until); err != nil {
		return err
	} else {
		t.step("book what has expired", func() (client.Answer, error) { return t.c.Book(ctx, free[1], other) }, refused("expired"))
		t.step("it is listed again", func() (client.Answer, error) { return t.c.Available(ctx) }, lists(free[1], true))
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	if t.failed > 0 {
		return fmt.Errorf("%d steps went otherwise than expected", t.failed)
	}
	fmt.Fprintln(out, "\nall as expected")
	return nil
}

func (t *trial) say(what string) { fmt.Fprintf(t.out, "\n%s\n", what) }

// expectation tells what should come, and whether it did.
type expectation struct {
	want string
	is   func(client.Answer) bool
}

var ok = expectation{"200", func(a client.Answer) bool { return a.Status == http.StatusOK }}

func refused(code string) expectation {
	return expectation{"400 " + code, func(a client.Answer) bool { return a.Status == http.StatusBadRequest && a.Code() == code }}
}

func is(state string) expectation {
	return expectation{"200, " + state, func(a client.Answer) bool { return a.Status == http.StatusOK && a.Reply.State == state }}
}

func lists(ticket string, yes bool) expectation {
	want := "200, with " + ticket
	if !yes {
		want = "200, without " + ticket
	}
	return expectation{want, func(a client.Answer) bool {
		return a.Status == http.StatusOK && a.Reply.Available != nil && slices.Contains(*a.Reply.Available, ticket) == yes
	}}
}

// step asks, and prints what was asked, what came, and what was expected.
func (t *trial) step(what string, ask func() (client.Answer, error), want expectation) client.Answer {
	a, err := ask()
	if t.ctx.Err() != nil { // whatever came then says nothing of the service
		return a
	}
	came := fmt.Sprintf("%d %s", a.Status, a.Body)
	if err != nil {
		came = err.Error()
	}
	verdict := "ok"
	if err != nil || !want.is(a) {
		verdict = "WRONG"
		t.failed++
	}
	fmt.Fprintf(t.out, "  %-5s %s\n        sent:     %s\n        came:     %.300s\n        expected: %s\n", verdict, what, a.Asked, came, want.want)
	return a
}

// waitUntil waits until a moment after a time, and says so.
func (t *trial) waitUntil(until time.Time) error {
	until = until.Add(time.Second) // by when it is promised to have expired
	fmt.Fprintf(t.out, "  waiting %v for the reservation to expire\n", time.Until(until).Round(time.Second))
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return nil
		case <-ticker.C:
			fmt.Fprintf(t.out, "  %v more\n", time.Until(until).Round(time.Second))
		case <-t.ctx.Done():
			return errInterrupted
		}
	}
}
