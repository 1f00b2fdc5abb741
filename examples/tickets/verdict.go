package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/client"
)

// outcome is what the customers of one round saw.
type outcome struct {
	mu     sync.Mutex
	told   map[string][]string // a ticket, and who was told that it is his
	waits  []time.Duration     // from a customer's first request to his last answer
	left   map[string]int      // a ticket, and how many reserved it, and never came back
	held   time.Duration       // how long a reservation holds
	empty  atomic.Int64        // how many saw all tickets sold
	sold   sync.Map            // tickets that somebody was told are sold
	nSold  atomic.Int64
	asked  atomic.Int64 // requests
	silent atomic.Int64 // requests without an answer, or with a 503
	stop   func(error)  // ends the round
}

// leaves notes a reservation, and tells whether its customer, who would go, does: not from a
// ticket that two have left. So it is known how long all of it may take.
func (o *outcome) leaves(ticket string, reserved client.Answer, would bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = max(o.held, time.Duration(reserved.Reply.ExpiresIn*float64(time.Second)))
	if !would || o.left[ticket] == 2 {
		return false
	}
	o.left[ticket]++
	return true
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
	sold := "each to exactly one customer, the one who was told so, "
	if len(wrong) > 0 {
		sold = ""
	}
	left := 0
	for _, n := range o.left {
		left += n
	}
	fmt.Fprintf(r.out, "%d of %d tickets sold, %sin %.1f s\n", len(payers), len(names), sold, took.Seconds())
	fmt.Fprintf(r.out, "  %d customers: %d walked away, %d went home without\n", r.customers, left, o.empty.Load())
	fmt.Fprintf(r.out, "  %d requests, %d of them without an answer, or with a 503", o.asked.Load(), o.silent.Load())
	if r.troupe != nil {
		fmt.Fprintf(r.out, " (an instance was killed or paused then); %d instances killed, %d paused", f.kills, f.pauses)
	}
	fmt.Fprintln(r.out)
	r.histogram(o.waits)
	if len(wrong) > 0 {
		return fmt.Errorf("%w:\n  %s", errWrong, strings.Join(wrong, "\n  "))
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
	fmt.Fprintf(r.out, "How many customers had their last answer after how long; half of them within %v, 90 %% %v, 99 %% %v, all %v:\n", at(0.5), at(0.9), at(0.99), at(1))
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
