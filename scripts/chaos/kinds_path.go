package main

import (
	"errors"
	"fmt"
	"os"
)

// swap makes the path name something else than the file that was open, or not only it.
type swap struct {
	name string
	// open says that it can only be noticed by who has the file open: its bytes are right.
	open     bool
	do, undo func(*round, backup) error
}

func (r *round) fence() string  { return r.data() + ".fence" }
func (r *round) aside() string  { return r.data() + ".aside" }
func (r *round) second() string { return r.data() + ".second" }

// over puts a new file with this content in the place of another, which it keeps aside.
func (r *round) over(path string, content []byte) error {
	return errors.Join(os.Link(path, r.aside()), os.WriteFile(r.second(), content, 0o644), os.Rename(r.second(), path))
}

func dataBack(r *round, _ backup) error { return os.Rename(r.aside(), r.data()) }

var swaps = []swap{
	{"a copy renamed over", true, func(r *round, now backup) error { return r.over(r.data(), now.data) }, dataBack},
	{"a copy of the fence renamed over", true, func(r *round, now backup) error { return r.over(r.fence(), now.fence) },
		func(r *round, _ backup) error { return os.Rename(r.aside(), r.fence()) }},
	{"another file renamed over", false, func(r *round, now backup) error { return r.over(r.data(), now.data[:len(now.data)/2]) }, dataBack},
	{"symbolic link", false, func(r *round, _ backup) error {
		return errors.Join(os.Rename(r.data(), r.aside()), os.Symlink(r.aside(), r.data()))
	}, dataBack},
	{"hard link", false, func(r *round, _ backup) error { return os.Link(r.data(), r.second()) },
		func(r *round, _ backup) error { return os.Remove(r.second()) }},
	{"fence removed", false, func(r *round, _ backup) error { return os.Remove(r.fence()) },
		func(r *round, now backup) error { return r.putBack(now) }},
	{"file removed", false, func(r *round, _ backup) error { return os.Rename(r.data(), r.aside()) }, dataBack},
}

// pathSwapped: row 15. Refused; what is there stays, and what is not is not made.
func pathSwapped(r *round) error {
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
		s := swaps[r.rng.IntN(len(swaps))]
		do := func() error { return s.do(r, now) }
		if s.open {
			err = do()
		} else {
			err = r.maybeRestarted(do)
		}
		if err == nil {
			err = r.refusedUntil(func() error { return s.undo(r, now) })
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		r.fire(s.name)
	}
	return nil
}
