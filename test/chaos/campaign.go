package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// campaign deals rounds to lanes until the time is over.
type campaign struct {
	seed   uint64
	kinds  []kind
	rounds int           // how many; 0: until the time is over
	length time.Duration // how long
	began  time.Time
	dir    string
	keep   bool // every round's files

	mu      sync.Mutex
	rng     *rand.Rand
	dealt   int
	deck    []kind
	again   []kind // rejected, to be played again
	results []result
	failed  int
}

// mostFailed ends a run that failed so often: more of it would say nothing new.
const mostFailed = 5

// next deals a round: each kind once, shuffled; then those that are needed again.
func (c *campaign) next() (k kind, seed uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	over := time.Since(c.began) >= c.length
	if c.rounds > 0 {
		over = c.dealt >= c.rounds+c.rejectedSoFar()
	}
	if over || c.failed >= mostFailed || c.tooManyRejected() {
		return k, 0, false
	}
	switch {
	case len(c.again) > 0:
		k, c.again = c.again[0], c.again[1:]
	default:
		if len(c.deck) == 0 {
			c.deck = c.needed()
			c.rng.Shuffle(len(c.deck), func(i, j int) { c.deck[i], c.deck[j] = c.deck[j], c.deck[i] })
		}
		k, c.deck = c.deck[0], c.deck[1:]
	}
	seed = c.seed // a round's own seed makes the same round when it is the first
	if c.dealt > 0 {
		seed = c.rng.Uint64() >> 16
	}
	c.dealt++
	return k, seed, true
}

// enough is how often every kind is to fire before the frequent ones get more.
const enough = 5

// needed are the kinds that did not fire often enough yet; all when all did, and at
// first.
func (c *campaign) needed() []kind {
	fired := map[string]int{}
	for _, r := range c.results {
		if r.Verdict == fine {
			fired[r.Kind] += r.Fired
		}
	}
	rare := slices.DeleteFunc(slices.Clone(c.kinds), func(k kind) bool { return fired[k.name] >= enough })
	if len(rare) == 0 {
		return slices.Clone(c.kinds)
	}
	return rare
}

func (c *campaign) rejectedSoFar() (n int) {
	for _, r := range c.results {
		if r.Verdict == wasRejected {
			n++
		}
	}
	return n
}

// tooManyRejected tells whether so many rounds proved nothing that something is wrong
// with the machine or the harness.
func (c *campaign) tooManyRejected() bool {
	return c.rejectedSoFar() > 5+len(c.results)/5
}

func (c *campaign) add(k kind, res result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.results = append(c.results, res)
	if res.Verdict == wasRejected {
		c.again = append(c.again, k)
	}
	if res.Verdict == failed {
		c.failed++
	}
	say(res, time.Since(c.began))
}

// run plays on all lanes at once.
func (c *campaign) run(ctx context.Context, bin programs, lanes int, servers []string) error {
	errs := make([]error, lanes)
	var group sync.WaitGroup
	for i := range lanes {
		group.Go(func() {
			l, err := newLane(ctx, bin, filepath.Join(c.dir, fmt.Sprintf("lane%d", i+1)), servers)
			if err != nil {
				errs[i] = err
				return
			}
			defer l.close()
			for ctx.Err() == nil {
				k, seed, ok := c.next()
				if !ok {
					return
				}
				res := l.play(ctx, k, seed, c.keep)
				if ctx.Err() == nil {
					c.add(k, res)
				}
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// say prints a round's line.
func say(res result, at time.Duration) {
	fmt.Printf("%6.0fs  %-20s %-8s %3d faults %5d turns %6d acks %6.1fs  seed %d\n",
		at.Seconds(), res.Kind, res.Verdict, res.Fired, res.Turns, res.Acks, res.Seconds, res.Seed)
	if res.Why != "" {
		fmt.Printf("         %s\n", res.Why)
	}
	if res.Kept != "" {
		fmt.Printf("         its files are in %s; run it again with: scripts/chaos.sh --only %s --seed %d --rounds 1\n", res.Kept, res.Kind, res.Seed)
	}
}

// tidy removes the run's directory, unless something in it is to be looked at.
func (c *campaign) tidy() error {
	for _, r := range c.results {
		if r.Kept != "" {
			return nil
		}
	}
	return os.RemoveAll(c.dir)
}
