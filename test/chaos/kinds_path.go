package main

import (
	"errors"
	"fmt"
	"os"
)

// swap makes the path name something else than the file that was open, or not only it.
type swap struct {
	name string
	// heals says that it is no reason to refuse: the fleet goes on by itself.
	heals    bool
	do, undo func(*round, backup) error
}

func (r *round) aside() string  { return r.data() + ".aside" }
func (r *round) second() string { return r.data() + ".second" }

// over puts a new file with this content in the place of another, which it keeps aside.
func (r *round) over(path string, content []byte) error {
	return errors.Join(os.Link(path, r.aside()), os.WriteFile(r.second(), content, 0o644), os.Rename(r.second(), path))
}

func dataBack(r *round, _ backup) error { return os.Rename(r.aside(), r.data()) }

func nothing(*round, backup) error { return nil }

var swaps = []swap{
	{"a copy renamed over", true, func(r *round, now backup) error { return r.over(r.data(), now.data) },
		func(r *round, _ backup) error { return os.Remove(r.aside()) }},
	{"another file renamed over", false, func(r *round, now backup) error { return r.over(r.data(), now.data[:len(now.data)/2]) }, dataBack},
	{"symbolic link", false, func(r *round, _ backup) error {
		return errors.Join(os.Rename(r.data(), r.aside()), os.Symlink(r.aside(), r.data()))
	}, dataBack},
	{"hard link", false, func(r *round, _ backup) error { return os.Link(r.data(), r.second()) },
		func(r *round, _ backup) error { return os.Remove(r.second()) }},
	{"file removed", false, func(r *round, _ backup) error { return os.Rename(r.data(), r.aside()) }, dataBack},
	{"markers removed", true, func(r *round, _ backup) error { return os.RemoveAll(r.data() + ".alive") }, nothing},
}

// pathSwapped: row 15. Refused; what is there stays, and what is not is not made.
func pathSwapped(r *round) error {
	if err := r.man(1, 2); err != nil {
		return err
	}
	for range 3 {
		now, _, err := r.atRest()
		if err != nil {
			return err
		}
		s := swaps[r.rng.IntN(len(swaps))]
		if s.heals {
			err = r.healed(s, now)
		} else if err = r.maybeRestarted(func() error { return s.do(r, now) }); err == nil {
			err = r.refusedUntil(func() error { return s.undo(r, now) })
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		r.fire(s.name)
	}
	return nil
}

// healed does something that must not stop the fleet.
func (r *round) healed(s swap, now backup) error {
	if err := s.do(r, now); err != nil {
		return err
	}
	r.goOn()
	if err := r.progress(3); err != nil {
		return err
	}
	return s.undo(r, now)
}
