package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// programs are the executables.
type programs struct{ self, agent, toxiproxy string }

// lane is what rounds need that come one after another: an ensemble and a toxiproxy of
// their own. Rounds of two lanes do not disturb each other, but for the load.
type lane struct {
	bin      programs
	dir      string
	toxi     *toxiproxy
	ensemble *ensemble
}

func newLane(ctx context.Context, bin programs, dir string, servers []string) (*lane, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	l := &lane{bin: bin, dir: dir}
	var err error
	if l.toxi, err = startToxiproxy(ctx, bin.toxiproxy, filepath.Join(dir, "toxiproxy.log")); err != nil {
		return nil, err
	}
	if len(servers) > 0 {
		l.ensemble = foreignEnsemble(servers)
	} else if l.ensemble, err = startEnsemble(ctx, dir); err != nil {
		l.toxi.stop()
		return nil, fmt.Errorf("start three ZooKeeper servers: %w", err)
	}
	return l, nil
}

func (l *lane) close() {
	l.ensemble.stop()
	l.toxi.stop()
}

// heal undoes what a round may have left of its fault at the servers.
func (l *lane) heal(ctx context.Context) error {
	return errors.Join(l.toxi.reset(ctx), l.ensemble.heal(ctx))
}

// play runs one round and leaves nothing of it behind but, when it failed, its files.
func (l *lane) play(ctx context.Context, k kind, seed uint64, keep bool) result {
	dir := filepath.Join(l.dir, fmt.Sprintf("%s-%d", k.name, seed))
	r, err := newRound(ctx, l, k, seed, dir)
	if err != nil {
		return result{Kind: k.name, Seed: seed, Verdict: failed, Why: err.Error()}
	}
	res := r.play()
	if res.Verdict == failed || keep {
		res.Kept = dir
		r.keepServerLogs()
	}
	r.end()
	if err := l.heal(ctx); err != nil && ctx.Err() == nil && res.Verdict != failed {
		res.Verdict, res.Why = failed, fmt.Sprintf("the ensemble after the round: %v", err)
	}
	if res.Kept == "" {
		if err := os.RemoveAll(dir); err != nil && res.Verdict != failed {
			res.Verdict, res.Why = failed, err.Error()
		}
	}
	return res
}

// keepServerLogs puts the servers' logs beside what is kept of a failed round.
func (r *round) keepServerLogs() {
	for _, s := range r.ensemble.servers {
		if log, err := os.ReadFile(filepath.Join(s.dir, "log")); err == nil && s.dir != "" {
			_ = os.WriteFile(filepath.Join(r.dir, fmt.Sprintf("zookeeper%d.log", s.id)), log, 0o644) // an extra
		}
	}
}
