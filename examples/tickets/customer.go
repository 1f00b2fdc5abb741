package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/client"
)

// customer wants one ticket.
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
				c.done(began, ticket)
				return
			case walkedAway:
				c.done(began, "")
				return
			}
		}
		if unsold == 0 && ctx.Err() == nil {
			c.o.empty.Add(1)
			c.done(began, "")
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
	if a.Code() == "unknown_ticket" {
		c.o.stop(misuse("the service does not know %s: DATABASE_URL must be the database of the service at --url", ticket))
	}
	if a.Status != http.StatusOK {
		return notYet
	}
	if c.o.leaves(ticket, a, rand.Float64() < c.rush.walkAway) {
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

func (c *customer) done(began time.Time, ticket string) {
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	c.o.waits = append(c.o.waits, time.Since(began))
	if ticket != "" {
		c.o.told[ticket] = append(c.o.told[ticket], c.name)
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
