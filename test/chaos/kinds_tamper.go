package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tamper is a way to damage what is committed; the verifier must name one of kinds.
type tamper struct {
	name  string
	kinds []string
	do    func(data []byte, turns []turnSeen, i int) []byte
}

var tampers = []tamper{
	{"bit flipped", []string{"corrupt", "torn", "interleaved"}, func(data []byte, turns []turnSeen, i int) []byte {
		data[turns[i+1].begin-2] ^= 1 // in a record's text
		return data
	}},
	{"line removed", []string{"torn", "corrupt"}, func(data []byte, turns []turnSeen, i int) []byte {
		last := turns[i].records[len(turns[i].records)-1]
		end := turns[i+1].begin
		return slices.Delete(data, end-len(last)-1, end)
	}},
	{"turn removed", []string{"missing"}, func(data []byte, turns []turnSeen, i int) []byte {
		return slices.Delete(data, turns[i].begin, turns[i+1].begin)
	}},
	{"turn doubled", []string{"duplicated"}, func(data []byte, turns []turnSeen, i int) []byte {
		return slices.Insert(data, turns[i+1].begin, slices.Clone(data[turns[i].begin:turns[i+1].begin])...)
	}},
	{"turns swapped", []string{"reordered"}, func(data []byte, turns []turnSeen, i int) []byte {
		a, b, c := turns[i].begin, turns[i+1].begin, turns[i+2].begin
		return slices.Concat(data[:a], data[b:c], data[a:b], data[c:])
	}},
	{"byte cut off", []string{"torn", "lost"}, func(data []byte, _ []turnSeen, _ int) []byte {
		return data[:len(data)-1]
	}},
}

// tampered: row 14. The verifier names what was done to a copy; a file whose length no
// longer fits is refused by the fleet.
func tampered(r *round) error {
	if err := r.man(1, 2); err != nil {
		return err
	}
	for range 2 {
		now, turns, err := r.atRest()
		if err != nil {
			return err
		}
		for _, t := range tampers {
			i := r.rng.IntN(len(turns) - 2)
			if err := r.named(t, t.do(slices.Clone(now.data), turns, i)); err != nil {
				return err
			}
		}
		bad := []tamper{tampers[1], tampers[2], tampers[3], tampers[5]}[r.rng.IntN(4)]
		damaged := bad.do(slices.Clone(now.data), turns, r.rng.IntN(len(turns)-2))
		if err := r.maybeRestarted(func() error { return os.WriteFile(r.data(), damaged, 0o644) }); err != nil {
			return err
		}
		if err := r.refusedUntil(func() error { return r.putBack(now) }); err != nil {
			return fmt.Errorf("%s: %w", bad.name, err)
		}
		r.fire(bad.name + ", refused")
	}
	return nil
}

// named has the verifier judge a damaged copy.
func (r *round) named(t tamper, damaged []byte) error {
	path := filepath.Join(r.dir, "tampered.txt")
	if err := os.WriteFile(path, damaged, 0o644); err != nil {
		return err
	}
	const faults = 3 // the exit code
	out, code, err := r.agent("verify", path, "--acks", filepath.Join(r.dir, "acks"))
	if err != nil {
		return err
	}
	for _, k := range t.kinds {
		if code == faults && strings.Contains(out, k) {
			r.fire(t.name + ", named")
			return nil
		}
	}
	return fmt.Errorf("%s: agent verify ends with %d and names none of %v: %s", t.name, code, t.kinds, out)
}
