package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// fault is a kind of fault; do returns when it is over.
type fault struct {
	name string
	on   func(kind) bool
	do   func(context.Context, *crew, *rand.Rand) error
}

var kindsOfFaults = []fault{
	{"an agent killed", onAll, func(ctx context.Context, c *crew, r *rand.Rand) error {
		return c.kill(ctx, c.any(r))
	}},
	{"all agents of a host killed", onAll, func(ctx context.Context, c *crew, r *rand.Rand) error {
		host := c.host(r)
		for _, m := range c.members {
			if m.at == host {
				if err := c.signal(ctx, m, syscall.SIGKILL); err != nil {
					return err
				}
			}
		}
		for _, m := range c.members {
			if m.at == host {
				if e, err := c.ended(ctx, m, time.Minute); err != nil || !e.Over {
					return errors.Join(err, fmt.Errorf("%s does not die of SIGKILL", m.name))
				}
				if err := c.begin(ctx, m); err != nil {
					return err
				}
			}
		}
		return nil
	}},
	{"an agent paused", onAll, func(ctx context.Context, c *crew, r *rand.Rand) error {
		m := c.any(r)
		if err := c.signal(ctx, m, syscall.SIGSTOP); err != nil {
			return err
		}
		return errors.Join(pause(ctx, time.Duration(1+r.IntN(12))*time.Second), c.signal(ctx, m, syscall.SIGCONT))
	}},
	{"a host frozen for longer than its lease", onAll, func(ctx context.Context, c *crew, r *rand.Rand) error {
		host := c.host(r)
		if err := host.tell("stop", nil); err != nil {
			return err
		}
		return errors.Join(pause(ctx, lease+time.Duration(2+r.IntN(8))*time.Second), host.tell("cont", nil))
	}},
	{"a host cut off from ZooKeeper", onAll, func(ctx context.Context, c *crew, r *rand.Rand) error {
		return c.cutFor(ctx, c.host(r), toZooKeeper, time.Duration(1+r.IntN(12))*time.Second)
	}},
	{"a host cut off from the volume", onAll, func(ctx context.Context, c *crew, r *rand.Rand) error {
		return c.cutFor(ctx, c.host(r), toVolume, time.Duration(1+r.IntN(20))*time.Second)
	}},
	{"the volume's server started again", onAll, func(ctx context.Context, c *crew, r *rand.Rand) error {
		return c.l.restartServer(ctx)
	}},
	{"the volume's server reset", onNFS, func(ctx context.Context, c *crew, r *rand.Rand) error {
		return c.l.machines[server].reset(ctx)
	}},
}

func (c *crew) any(r *rand.Rand) *member   { return c.members[r.IntN(len(c.members))] }
func (c *crew) host(r *rand.Rand) *machine { return c.l.machines[clients[r.IntN(2)]] }

func (c *crew) cutFor(ctx context.Context, m *machine, network string, d time.Duration) error {
	if err := m.cut(network, true); err != nil {
		return err
	}
	return errors.Join(pause(ctx, d), m.cut(network, false))
}

// faults lets things go wrong for as long as the lab was told, each kind at least once.
func faults(ctx context.Context, l *lab) error {
	c, err := l.newCrew(ctx, "faults", 2, 50*time.Millisecond)
	if err != nil {
		return err
	}
	defer c.end()
	if err := c.progress(ctx, 20, 2*time.Minute); err != nil {
		return err
	}
	beside := c.agent("cat", "--follow")
	if err := c.follow(ctx, l.machines["A"], "cat", beside...); err != nil {
		return err
	}
	if err := c.follow(ctx, l.machines[reader], "cat", beside...); err != nil {
		return err
	}
	if err := c.follow(ctx, l.machines[reader], "tail", "/bin/busybox", "tail", "-c", "+1", "-F", "/srv/"+c.file); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(l.seed, 1))
	var kinds []fault
	for _, f := range kindsOfFaults {
		if f.on(l.kind) {
			kinds = append(kinds, f)
		}
	}
	counts := map[string]int{}
	var deck []fault // each kind once, in any order, and again
	for end := time.Now().Add(l.rest); time.Now().Before(end) || len(counts) < len(kinds); {
		if len(deck) == 0 {
			deck = slices.Clone(kinds)
			r.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		f := deck[0]
		deck = deck[1:]
		l.say("turn %d; %s", c.turn(), f.name)
		if err := f.do(ctx, c, r); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		counts[f.name]++
		if err := c.progress(ctx, uint64(5+r.IntN(40)), 2*time.Minute); err != nil {
			return fmt.Errorf("after %s: %w", f.name, err)
		}
		if err := c.alive(ctx); err != nil {
			return fmt.Errorf("after %s: %w", f.name, err)
		}
	}
	if err := c.finish(ctx); err != nil {
		return err
	}
	turns, err := c.judge(ctx)
	if err != nil {
		return err
	}
	total := 0
	for _, f := range kinds {
		l.say("%4d × %s", counts[f.name], f.name)
		total += counts[f.name]
	}
	l.say("%d faults, %d turns", total, len(turns))
	return nil
}
