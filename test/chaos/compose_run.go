package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// runCompose plays rounds on the compose stack until the time is over.
func runCompose(ctx context.Context, o options, dir string) (c *campaign, err error) {
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	var servers []string
	for i, port := range ports {
		servers = append(servers, fmt.Sprintf("127.0.0.1:%d", port))
		if err := os.Setenv(fmt.Sprintf("ZOOKEEPER%d_PORT", i+1), fmt.Sprint(port)); err != nil {
			return nil, err
		}
	}
	for name, value := range map[string]string{"AGENTS": "0", "PACE": "20ms", "TURNSTILE_IMAGE": "turnstile-agent:chaos"} {
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	l := &lane{bin: programs{agent: o.agent}, dir: dir, ensemble: foreignEnsemble(servers)}
	r, err := newRound(ctx, l, kind{}, o.seed, filepath.Join(dir, "round"))
	if err != nil {
		return nil, err
	}
	r.fleet = "default"
	s := &stack{round: r, override: filepath.Join(dir, "compose.yml")}
	c = &campaign{
		seed: o.seed, kinds: s.kinds(), rounds: o.rounds, length: o.length, dir: dir,
		began: time.Now(), rng: rand.New(rand.NewPCG(o.seed, 1)),
	}
	if c.kinds, err = only(c.kinds, o.only); err != nil {
		return nil, err
	}
	fmt.Println("building and starting the compose stack", project)
	defer func() {
		down := s.down()
		_, image := s.docker("image", "rm", os.Getenv("TURNSTILE_IMAGE"))
		err = errors.Join(err, down, image)
	}()
	if err := s.up(); err != nil {
		return nil, err
	}
	c.began = time.Now()
	for ctx.Err() == nil {
		k, seed, ok := c.next()
		if !ok {
			break
		}
		if res := s.play(k, seed); ctx.Err() == nil {
			c.add(k, res)
			if res.Verdict == failed {
				logs, err := s.compose("logs", "--no-color", "--tail", "60")
				fmt.Println(logs)
				return c, err // the stack is as the failure left it: what follows proves nothing
			}
		}
	}
	return c, nil
}

// play is a round on the stack.
func (s *stack) play(k kind, seed uint64) result {
	began := time.Now()
	s.kind, s.seed, s.rng = k, seed, rand.New(rand.NewPCG(seed, 0))
	s.fired, s.steps = 0, map[string]int{}
	res := result{Kind: k.name, Seed: seed, Verdict: fine}
	before, err := s.head()
	if err == nil {
		err = k.run(s.round)
	}
	var v verdict
	if err == nil || errors.Is(err, errRejected) {
		var judged error
		if v, judged = s.verdict(); judged != nil {
			err = judged
		}
	}
	if before != nil {
		res.Turns = v.turns - int(before.Turn)
	}
	res.Fired, res.Steps, res.Records, res.Acks = s.fired, s.steps, v.records, v.acks
	res.Seconds = time.Since(began).Seconds()
	switch {
	case errors.Is(err, errRejected):
		res.Verdict, res.Why = wasRejected, err.Error()
	case err != nil:
		res.Verdict, res.Why = failed, err.Error()
	}
	return res
}
