package main

import (
	"context"
	"fmt"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// stand is how long a fleet may stand still before the measurement is given up.
const stand = 2 * time.Minute

// herd is a running fleet's agents, which can be killed.
type herd interface {
	// who tells which agent has a place, "" when it is none that can be killed.
	who(filelock.Entry) string
	// kill ends an agent: when the order was given, and when the process got it.
	kill(ctx context.Context, agent string) (issued, killed time.Time, err error)
	// revive puts another in its place.
	revive(ctx context.Context, agent string) error
	end()
}

// bench kills the agents of a fleet in their turn.
type bench struct {
	herd   herd
	see    *onlooker
	path   string // the file
	agents int
	issued []time.Duration
}

func ourFleet(ctx context.Context, c config, dir string) (s sample, err error) {
	b := bench{agents: c.agents}
	fleet := fmt.Sprintf("bench-%d", time.Now().UnixNano())
	b.path = dir + "/data.txt"
	if c.project != "" {
		fleet = "default"
		b.path, err = volume(ctx, c.project)
	}
	if err != nil {
		return s, err
	}
	if b.see, err = look(ctx, c, filelock.Root("/turnstile/"+fleet)); err != nil {
		return s, err
	}
	defer b.see.sess.Close()
	if c.project != "" {
		b.herd, err = newContainers(ctx, c)
	} else {
		b.herd, err = newProcesses(c, fleet, dir)
	}
	if err != nil {
		return s, err
	}
	defer b.herd.end()
	if s, err = collect(ctx, c.kills, b.once); err != nil {
		return s, err
	}
	if s.healthy, err = b.watch(ctx, c.kills); err != nil {
		return s, err
	}
	if c.project != "" && !c.direct {
		s.issued = b.issued
	}
	return s, nil
}

// once kills whoever has the turn, and measures from the kill to the next commit.
func (b *bench) once(ctx context.Context) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, stand, fmt.Errorf("the fleet has stood still for %v", stand))
	defer cancel()
	victim, token, err := b.choose(ctx)
	if err != nil {
		return 0, err
	}
	newest := b.follow(ctx, victim, token)
	issued, killed, err := b.herd.kill(ctx, victim)
	token = newest()
	if err != nil {
		return 0, fmt.Errorf("kill %s: %w", victim, err)
	}
	next, err := b.see.after(ctx, killed)
	if err != nil {
		return 0, err
	}
	if err := b.herd.revive(ctx, victim); err != nil {
		return 0, fmt.Errorf("start %s again: %w", victim, err)
	}
	// It died in its turn if that was never committed, and after its death nobody's
	// was who had a place before it.
	committed, err := isIn(b.path, token)
	if err != nil {
		return 0, err
	}
	if committed || next.token < token {
		return 0, errMissed
	}
	b.issued = append(b.issued, next.at.Sub(issued))
	return next.at.Sub(killed), nil
}

// watch measures from one commit to the next while nobody is killed.
func (b *bench) watch(ctx context.Context, turns int) (times []time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, stand, fmt.Errorf("the fleet is slower than %d turns in %v", turns, stand))
	defer cancel()
	if _, _, err := b.choose(ctx); err != nil { // all are there
		return nil, err
	}
	last, err := b.see.after(ctx, time.Now())
	for err == nil && len(times) < turns {
		var next commit
		next, err = b.see.after(ctx, last.at)
		times = append(times, next.at.Sub(last.at))
		last = next
	}
	return times, err
}

// choose waits until all agents queue, and names the one with the turn and its token.
func (b *bench) choose(ctx context.Context) (victim string, token frame.Token, err error) {
	for {
		queue, err := b.see.queue(ctx)
		if err != nil {
			return "", 0, err
		}
		there := map[string]bool{}
		for _, e := range queue {
			there[b.herd.who(e)] = true
		}
		if len(queue) > 0 && len(there) == b.agents && !there[""] {
			return b.herd.who(queue[0]), frame.Token(queue[0].Token), nil
		}
	}
}

// glance is how often the queue is looked at while Docker makes up its mind: more often
// than places come and go, and not so often that it is felt.
const glance = 5 * time.Millisecond

// follow looks at the queue until it is asked for the token of the agent's newest place.
func (b *bench) follow(ctx context.Context, agent string, token frame.Token) (newest func() frame.Token) {
	enough, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(glance)
		defer tick.Stop()
		for {
			select {
			case <-enough:
				return
			case <-tick.C:
			}
			queue, err := b.see.queue(ctx)
			if err != nil {
				return // whoever waits for the commit is told
			}
			for _, e := range queue {
				if b.herd.who(e) == agent {
					token = max(token, frame.Token(e.Token))
				}
			}
		}
	}()
	return func() frame.Token { close(enough); <-ended; return token }
}
