package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// backup is the volume's files at a moment at which nobody writes.
type backup struct{ data, fence []byte }

func (r *round) backup() (b backup, err error) {
	if err := r.quiet(); err != nil {
		return b, err
	}
	data, err1 := os.ReadFile(r.data())
	fence, err2 := os.ReadFile(r.data() + ".fence")
	return backup{data, fence}, errors.Join(err1, err2)
}

// putBack writes into the files that are there, as a restore in place does.
func (r *round) putBack(b backup) error {
	return errors.Join(os.WriteFile(r.data(), b.data, 0o644), os.WriteFile(r.data()+".fence", b.fence, 0o644))
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
	if err := r.revive(); err != nil {
		return err
	}
	return r.progress(2)
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
		if err := r.warm(); err != nil {
			return err
		}
		old, err := r.backup()
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
		step := "file and fence restored"
		if r.rng.IntN(2) == 0 {
			step, old.fence = "file restored", now.fence
		}
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
		if err := r.warm(); err != nil {
			return err
		}
		now, err := r.backup()
		if err != nil {
			return err
		}
		turns, err := readTurns(now.data)
		if err != nil {
			return err
		}
		n := 1 + r.rng.IntN(min(5, len(turns)-1))
		short := backup{now.data[:turns[len(turns)-n].begin], now.fence}
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

// badTail: row 14. Something of what a crash can leave stands behind head: it is put
// aside, byte for byte, and the fleet goes on.
func badTail(r *round) error {
	if err := r.man(1, 2); err != nil {
		return err
	}
	for range 3 {
		if err := r.warm(); err != nil {
			return err
		}
		now, err := r.backup()
		if err != nil {
			return err
		}
		turns, err := readTurns(now.data)
		if err != nil {
			return err
		}
		last := turns[len(turns)-1]
		frame := now.data[last.begin:] // the last frame, as that of the next turn
		frame = bytes.Replace(frame, fmt.Appendf(nil, "#turn %d ", last.turn), fmt.Appendf(nil, "#turn %d ", last.turn+1), 1)
		tail, step := frame[:1+r.rng.IntN(len(frame))], "torn tail"
		switch r.rng.IntN(3) {
		case 0:
			tail, step = make([]byte, 1+r.rng.IntN(4096)), "tail of zeros"
		case 1:
			tail, step = slices.Clone(frame), "tail with a hole"
			from := r.rng.IntN(len(tail))
			clear(tail[from : from+r.rng.IntN(len(tail)-from)+1])
		}
		if err := r.maybeRestarted(func() error {
			return os.WriteFile(r.data(), append(slices.Clone(now.data), tail...), 0o644)
		}); err != nil {
			return err
		}
		r.goOn()
		if err := r.progress(2); err != nil {
			return err
		}
		if err := r.putAside(tail); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
		r.fire(step)
	}
	return nil
}

// putAside makes sure that the tail is in a file of its own.
func (r *round) putAside(tail []byte) error {
	orphans, err := filepath.Glob(filepath.Join(r.data()+".orphans", "*"))
	if err != nil {
		return err
	}
	for _, name := range orphans {
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if bytes.Equal(content, tail) {
			return nil
		}
	}
	return fmt.Errorf("a tail of %d bytes is in none of the %d orphans", len(tail), len(orphans))
}
