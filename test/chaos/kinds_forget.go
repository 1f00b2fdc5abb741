package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// wiped: row 9. Everybody refuses, and the file stays; adopt goes on with it.
func wiped(r *round) error {
	return r.forgets("wiped", func() error { return nil }, func(s *server) error {
		return os.RemoveAll(filepath.Join(s.dir, "data"))
	})
}

// restored: row 9. ZooKeeper comes back as it was some turns ago, or one: then the file is
// longer than head says.
func restored(r *round) error {
	kept := func(s *server) string { return filepath.Join(r.dir, fmt.Sprintf("zookeeper%d", s.id)) }
	keep := func() error {
		for _, s := range r.ensemble.servers {
			if err := os.CopyFS(kept(s), os.DirFS(filepath.Join(s.dir, "data"))); err != nil {
				return err
			}
		}
		return nil
	}
	step, prepare := "restored", func() error {
		if err := r.ensemble.frozen(keep); err != nil {
			return err
		}
		return r.progress(1)
	}
	if r.rng.IntN(2) == 0 {
		step, prepare = "restored, one turn", func() error { return r.oneTurnAfter(func() error { return r.ensemble.frozen(keep) }) }
	}
	return r.forgets(step, prepare, func(s *server) error {
		data := filepath.Join(s.dir, "data")
		if err := os.RemoveAll(data); err != nil {
			return err
		}
		return os.Rename(kept(s), data)
	})
}

// oneTurnAfter does something to an idle fleet, and has it write one turn after.
func (r *round) oneTurnAfter(do func() error) error {
	if err := r.quiet(); err != nil {
		return err
	}
	before, err := r.head()
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	p := r.anyone()
	p.feed.some(1)
	if err := r.progressOf([]*proc{p}, 1); err != nil {
		return err
	}
	after, err := r.head()
	if err == nil && after.Turn != before.Turn+1 {
		err = rejected("%d turns were written, and not one", after.Turn-before.Turn)
	}
	return err
}

// forgets has ZooKeeper lose what it knew, under a running fleet.
func (r *round) forgets(step string, prepare func() error, lose func(*server) error) error {
	if err := r.working(1, 3); err != nil {
		return err
	}
	if err := prepare(); err != nil {
		return err
	}
	r.ensemble.stop()
	for _, p := range r.live() { // nobody has a turn any more
		err := within(r.ctx, r.timeout+deadlineSlack, p.id+" has no session", p.sessionless)
		if err != nil {
			return err
		}
	}
	before, err := whole(r.data())
	if err != nil {
		return err
	}
	if err := r.ensemble.replaceData(r.ctx, lose); err != nil {
		return err
	}
	r.goOn()
	if err := r.allRefuse(); err != nil {
		return err
	}
	r.fire(step)
	if err := unchanged(r.data(), before); err != nil {
		return err
	}
	if _, err := r.mustAgent("adopt", "--data", r.data()); err != nil {
		return err
	}
	return r.backAtWork(2)
}

// allRefuse makes sure that every agent ends with exit code 6 and says why.
func (r *round) allRefuse() error {
	for _, p := range r.live() {
		if err := p.mustExit(r.ctx, exitRefused, "refused: "); err != nil {
			return err
		}
	}
	return nil
}
