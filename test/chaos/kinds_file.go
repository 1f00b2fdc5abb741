package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/session"
)

// backup is the volume's files at a moment at which nobody writes.
type backup struct{ data []byte }

func (r *round) backup() (b backup, err error) {
	if err := r.quiet(); err != nil {
		return b, err
	}
	if err := r.settled(); err != nil {
		return b, err
	}
	data, err := os.ReadFile(r.data())
	return backup{data}, err
}

// atRest has the fleet write and then rest, and gives what the file holds.
func (r *round) atRest() (b backup, turns []turnSeen, err error) {
	if err := r.warm(); err != nil {
		return b, nil, err
	}
	if b, err = r.backup(); err != nil {
		return b, nil, err
	}
	turns, err = readTurns(b.data)
	return b, turns, err
}

// putBack writes into the files that are there, as a restore in place does.
func (r *round) putBack(b backup) error {
	return os.WriteFile(r.data(), b.data, 0o644)
}

// refusedUntil has every agent refuse the file as it now is, makes sure that none of
// them changed it, undoes what was done, and lets the fleet go on.
func (r *round) refusedUntil(undo func() error) error {
	before, err := whole(r.data())
	if err != nil {
		return err
	}
	r.goOn()
	if err := r.allRefuse(); err != nil {
		return err
	}
	if err := unchanged(r.data(), before); err != nil {
		return err
	}
	if err := undo(); err != nil {
		return err
	}
	return r.backAtWork(2)
}

// restart ends the fleet, so that what follows is found at the start.
func (r *round) restart() error {
	for _, p := range r.live() {
		p.leaving = true
		p.feed.end()
	}
	for _, s := range r.slots {
		if code, err := s.now.exits(r.ctx, patience); err != nil || code != exitFine {
			return errors.Join(err, fmt.Errorf("%s ended with %d; the end of its log: %s", s.now.id, code, s.now.lastWords()))
		}
	}
	return nil
}

// maybeRestarted does something to the files of an idle fleet: of one that runs, or of
// one that is ended before and started after.
func (r *round) maybeRestarted(do func() error) error {
	again := r.rng.IntN(2) == 0
	if again {
		if err := r.restart(); err != nil {
			return err
		}
	}
	if err := do(); err != nil || !again {
		return err
	}
	return r.revive()
}

// volumeRestored: row 10.
func volumeRestored(r *round) error {
	if err := r.man(1, 2); err != nil {
		return err
	}
	for range 2 {
		old, _, err := r.atRest()
		if err != nil {
			return err
		}
		r.goOn()
		if err := r.progress(1 + r.rng.IntN(3)); err != nil {
			return err
		}
		now, err := r.backup()
		if err != nil {
			return err
		}
		const step = "file restored"
		if err := r.maybeRestarted(func() error { return r.putBack(old) }); err != nil {
			return err
		}
		if err := r.refusedUntil(func() error { return r.putBack(now) }); err != nil {
			return err
		}
		r.fire(step)
	}
	return nil
}

// fileCut: row 10. Some turns are gone from the end; what is left is a valid file.
func fileCut(r *round) error {
	if err := r.man(1, 2); err != nil {
		return err
	}
	for range 3 {
		now, turns, err := r.atRest()
		if err != nil {
			return err
		}
		n := 1 + r.rng.IntN(min(5, len(turns)-1))
		short := backup{now.data[:turns[len(turns)-n].begin]}
		if err := r.maybeRestarted(func() error { return r.putBack(short) }); err != nil {
			return err
		}
		if err := r.refusedUntil(func() error { return r.putBack(now) }); err != nil {
			return err
		}
		r.fire("cut at a turn's boundary")
	}
	return nil
}

// foreignBytes: row 14. Somebody else writes behind what is committed: it is refused and
// never written over; adopt puts it aside, byte for byte, and the fleet goes on.
func foreignBytes(r *round) error {
	if err := r.man(1, 2); err != nil {
		return err
	}
	for range 2 {
		now, turns, err := r.atRest()
		if err != nil {
			return err
		}
		last := turns[len(turns)-1]
		tail, step := []byte("oops\n"), "oops appended"
		if r.rng.IntN(2) == 0 { // the last turn once more
			tail, step = now.data[last.begin:], "a turn appended"
		}
		if err := r.maybeRestarted(func() error {
			return os.WriteFile(r.data(), append(slices.Clone(now.data), tail...), 0o644)
		}); err != nil {
			return err
		}
		r.goOn()
		if err := r.allRefuse(); err != nil {
			return err
		}
		if _, err := r.mustAgent("adopt", "--data", r.data()); err != nil {
			return err
		}
		if err := r.keptAside(tail); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
		if err := r.backAtWork(2); err != nil {
			return err
		}
		r.fire(step)
	}
	return nil
}

// keptAside makes sure that bytes are in a file of their own.
func (r *round) keptAside(tail []byte) error {
	aside, err := filepath.Glob(r.data() + ".foreign-*")
	if err != nil {
		return err
	}
	for _, name := range aside {
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if bytes.Equal(content, tail) {
			return nil
		}
	}
	return fmt.Errorf("%d bytes that somebody else wrote are in none of %d files", len(tail), len(aside))
}

// turnAltered: row 23. With the owner dead and its turn in ZooKeeper alone, the node is
// changed or deleted by hand. Nobody writes what is not the turn, and all refuse.
func turnAltered(r *round) error {
	if err := r.working(3, 0); err != nil {
		return err
	}
	for _, p := range r.live() { // all die with a turn that is committed and not written
		if err := p.arm(r.ctx, failpoint{Name: "commit.after", Action: actKill}); err != nil {
			p.leaving = true // it died of the one before
			continue
		}
	}
	for _, p := range r.live() {
		p.leaving = true
		if _, err := p.exits(r.ctx, time.Minute); err != nil {
			return orRejected(err)
		}
	}
	undo, step, err := r.alterTurn()
	if err != nil {
		return err
	}
	before, err := whole(r.data())
	if err != nil {
		return err
	}
	if err := r.revive(); err != nil {
		return err
	}
	if err := r.allRefuse(); err != nil {
		return err
	}
	if err := unchanged(r.data(), before); err != nil {
		return err
	}
	if err := undo(); err != nil {
		return err
	}
	r.fire(step)
	return r.backAtWork(3)
}

// alterTurn alters or deletes the node of the last turn, which no file has.
func (r *round) alterTurn() (undo func() error, step string, err error) {
	var node string
	var was []byte
	remove := r.rng.IntN(2) == 0
	err = r.with(func(ctx context.Context, sess *session.Session) error {
		head, err := fleet.Head(ctx, sess, r.root())
		if err != nil {
			return err
		}
		node = r.root().Turn(head.Incarnation, head.Turn)
		there, err := sess.Get(ctx, node)
		if err != nil {
			return rejected("turn %d has no node: %v", head.Turn, err)
		}
		was = there.Data
		if remove {
			return sess.Delete(ctx, node)
		}
		altered := bytes.Clone(was)
		altered[len(altered)-2] ^= 1
		_, err = sess.Set(ctx, node, altered, -1)
		return err
	})
	undo = func() error {
		return r.with(func(ctx context.Context, sess *session.Session) error {
			if remove {
				_, err := sess.Create(ctx, node, was, 0)
				return err
			}
			_, err := sess.Set(ctx, node, was, -1)
			return err
		})
	}
	step = "a turn's node altered"
	if remove {
		step = "a turn's node deleted"
	}
	return undo, step, err
}
