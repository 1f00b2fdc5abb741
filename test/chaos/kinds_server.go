package main

import (
	"context"
	"fmt"
	"time"
)

// headMoves makes sure that head is not behind what it was, and remembers it.
func (r *round) headMoves(last *uint64) error {
	head, err := r.head()
	if err != nil {
		return err
	}
	if head == nil || head.Turn < *last {
		return fmt.Errorf("head went back from turn %d to %+v", *last, head)
	}
	*last = head.Turn
	return nil
}

// serverFault has do something to a server, in the middle of the fleet's work, and
// undo when the fleet has gone on.
func (r *round) serverFault(times int, step string, choose func(context.Context) (*server, error), do, undo func(*server) error) error {
	if err := r.working(2, 2); err != nil {
		return err
	}
	var last uint64
	for range times {
		s, err := choose(r.ctx)
		if err != nil {
			return err
		}
		if err := r.headMoves(&last); err != nil {
			return err
		}
		if err := do(s); err != nil {
			return err
		}
		r.fire(step)
		if err := r.progress(3); err != nil {
			return err
		}
		if err := r.headMoves(&last); err != nil {
			return err
		}
		if err := undo(s); err != nil {
			return err
		}
		if err := r.ensemble.serving(r.ctx); err != nil {
			return err
		}
		if err := r.progress(1); err != nil {
			return err
		}
		if err := r.headMoves(&last); err != nil {
			return err
		}
	}
	return nil
}

func (r *round) anyFollower(ctx context.Context) (*server, error) {
	all, err := r.ensemble.followers(ctx)
	if err != nil {
		return nil, err
	}
	return all[r.rng.IntN(len(all))], nil
}

func killed(s *server) error { s.kill(); return nil }

// The kinds of row 8.
func leaderKilled(r *round) error {
	return r.serverFault(2, "leader SIGKILL", r.ensemble.leader, killed, (*server).run)
}

func leaderStopped(r *round) error {
	return r.serverFault(2, "leader SIGSTOP", r.ensemble.leader, (*server).pause, (*server).resume)
}

func followerKilled(r *round) error {
	return r.serverFault(3, "follower SIGKILL", r.anyFollower, killed, (*server).run)
}

// quorumLost: two of three are gone. Nothing may be committed until one is back.
func quorumLost(r *round) error {
	if err := r.working(2, 2); err != nil {
		return err
	}
	for range 2 {
		stays := r.ensemble.servers[r.rng.IntN(3)]
		before, err := r.head()
		if err != nil {
			return err
		}
		var gone []*server
		for _, s := range r.ensemble.servers {
			if s != stays {
				s.kill()
				gone = append(gone, s)
			}
		}
		if err := within(r.ctx, time.Minute, "the last server is in no quorum", func() bool { return stays.mode() == "" }); err != nil {
			return orRejected(err)
		}
		// What was answered before is acknowledged; after its session nobody has any left.
		for _, p := range r.live() {
			if err := within(r.ctx, r.timeout+deadlineSlack, p.id+" has no session", p.sessionless); err != nil {
				return err
			}
		}
		still, err := r.acknowledged()
		if err != nil {
			return err
		}
		if err := r.moment(2 * r.timeout); err != nil {
			return err
		}
		if now, err := r.acknowledged(); err != nil {
			return err
		} else if now != still {
			return fmt.Errorf("%d records were acknowledged without a quorum", now-still)
		}
		r.fire("two of three SIGKILL")
		for _, s := range gone {
			if err := s.run(); err != nil {
				return err
			}
		}
		if err := r.ensemble.serving(r.ctx); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
		if err := r.headMoves(&before.Turn); err != nil {
			return err
		}
	}
	return nil
}

func (r *round) acknowledged() (all int, err error) {
	for _, s := range r.slots {
		n, _, err := s.tail.look()
		if err != nil {
			return 0, err
		}
		all += n
	}
	return all, nil
}
