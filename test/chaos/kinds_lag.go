package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/turnstile-fleet/turnstile/session"
)

// laggingFollower: what the others committed gets to one server late, and half of the
// fleet knows no other.
func laggingFollower(r *round) error {
	leader, err := r.ensemble.leader(r.ctx)
	if err != nil {
		return err
	}
	slow, err := r.anyFollower(r.ctx)
	if err != nil {
		return err
	}
	wire, err := r.throughProxy(slow, leader)
	if err != nil {
		return err
	}
	for i := range 4 {
		s := r.add(i >= 2)
		if i%2 == 0 {
			s.links = []link{{listen: slow.addr}}
		}
		if err := r.spawn(s); err != nil {
			return err
		}
	}
	if err := r.warm(); err != nil {
		return err
	}
	for range 2 {
		late := 100 + r.rng.IntN(300)
		lag := toxic{"latency", "downstream", map[string]any{"latency": late}}
		if err := wire.add(r.ctx, lag); err != nil {
			return err
		}
		seen, err := r.lagOf(slow, leader)
		if err != nil {
			return err
		}
		if seen < time.Duration(late)*time.Millisecond/2 {
			return rejected("the follower lags by %v, and should by %d ms", seen, late)
		}
		r.fire("a follower lags")
		if err := r.progress(2); err != nil {
			return err
		}
		if err := wire.drop(r.ctx, lag); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

// throughProxy starts a follower again with a wire of ours to its leader.
func (r *round) throughProxy(s, leader *server) (link, error) {
	l, err := r.toxi.link(r.ctx, r.fleet+"-quorum", "127.0.0.1:0", fmt.Sprintf("127.0.0.1:%d", leader.peers[leader.id-1].quorum))
	if err != nil {
		return l, err
	}
	r.cleanup(func() { _ = l.remove(context.WithoutCancel(r.ctx)) }) // it goes with toxiproxy at the latest
	s.kill()
	s.via = map[int]string{leader.id: l.listen}
	if err := s.run(); err != nil {
		return l, err
	}
	return l, r.ensemble.serving(r.ctx)
}

// lagOf measures how much later than on the leader a node is seen on the follower.
func (r *round) lagOf(slow, leader *server) (lag time.Duration, err error) {
	reader, err := session.Dial(r.ctx, session.Options{Servers: []string{slow.addr}, Timeout: 20 * time.Second})
	if err != nil {
		return 0, orRejectedDial(err)
	}
	defer reader.Close()
	writer, err := session.Dial(r.ctx, session.Options{Servers: []string{leader.addr}, Timeout: 20 * time.Second})
	if err != nil {
		return 0, orRejectedDial(err)
	}
	defer writer.Close()
	node := string(r.root()) + "/lag"
	exists, watch, err := reader.WatchFor(r.ctx, node)
	if err != nil || exists {
		return 0, errors.Join(err, writer.Delete(r.ctx, node))
	}
	if _, err := writer.Create(r.ctx, node, nil, 0); err != nil {
		return 0, err
	}
	began := time.Now()
	select {
	case <-watch:
		lag = time.Since(began)
	case <-reader.Done():
		return 0, rejected("measure the follower's lag: %w", reader.Err())
	case <-r.ctx.Done():
		return 0, context.Cause(r.ctx)
	}
	return lag, writer.Delete(r.ctx, node)
}

func orRejectedDial(err error) error {
	if errors.Is(err, session.ErrUnavailable) {
		return rejected("measure the follower's lag: %w", err)
	}
	return err
}
