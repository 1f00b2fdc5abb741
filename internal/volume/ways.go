package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// effort is how much is written in each way.
type effort struct {
	turns  int // ranges that are written strictly in turn
	larges int // large writes after them
}

// usual are eight pages, written a hundred times and more.
var usual = effort{turns: 160, larges: 8}

// large is how many ranges a large write has: what fits the largest turn of an agent.
const large = 256 << 10 / rangeLen

// way is a way to open the file: a mode for each machine.
type way struct {
	name  string
	modes []Mode
}

// ways are those that are tried: all modes, and what auto makes of it when it makes
// different things of it on different machines; or the mode that was asked for alone.
func (j *joint) ways() (all []way) {
	autos := make([]Mode, len(j.all))
	for i, h := range j.all {
		autos[i] = h.Mode
	}
	for _, mode := range []Mode{Plain, Sync, Direct} {
		if j.Volume == Auto || j.Volume == string(mode) {
			all = append(all, way{string(mode), slices.Repeat([]Mode{mode}, len(j.all))})
		}
	}
	if j.Volume == Auto && !slices.Contains(autos, "") && len(slices.Compact(slices.Clone(autos))) > 1 {
		all = append(all, way{Auto, autos})
	}
	return all
}

// trial is one way as it is tried.
type trial struct {
	*joint
	way
	file string
	seen Seen // by us
}

// failure is what ends a trial on all machines.
type failure struct {
	text    string
	refused bool // O_DIRECT was
}

func (f *failure) Error() string { return f.text }

// tryWay has the machines write neighbouring ranges of the same pages strictly in turn, each
// reading what the one before wrote through the descriptor that it writes with, as agents
// do; then large writes; and looks at the end what the file holds.
func (j *joint) tryWay(ctx context.Context, w way) (Way, error) {
	t := &trial{joint: j, way: w, file: filepath.Join(j.work, w.name)}
	tried := Way{Mode: w.name, Direct: slices.Contains(w.modes, Direct)}
	err := t.run(ctx)
	var failed *failure
	if errors.As(err, &failed) {
		_, _ = t.ask(ctx, request{Do: "close"}) // that it failed is known
	}
	switch {
	case errors.As(err, &failed) && failed.refused:
		tried.Result, tried.Error = Refused, failed.text
		return tried, nil
	case errors.As(err, &failed):
		tried.Result, tried.Error = Broken, failed.text
		return tried, nil
	case err != nil:
		return tried, err
	}
	all, err := share(ctx, j.Peers, t.seen)
	if err != nil {
		return tried, err
	}
	tried.Turns, tried.Larges = j.effort.turns, j.effort.larges
	tried.add(all)
	return tried, nil
}

func (t *trial) run(ctx context.Context) error {
	if err := t.open(ctx); err != nil {
		return err
	}
	for n := range t.effort.turns {
		t.begin(fmt.Sprintf("%s: turn %d of %d", t.name, n+1, t.effort.turns))
		if err := t.step(ctx, func() error { return t.turn(ctx, n) }); err != nil {
			return err
		}
	}
	if err := t.step(ctx, func() error { return t.look(ctx, t.effort.turns-1) }); err != nil {
		return err
	}
	for n := range t.effort.larges {
		t.begin(fmt.Sprintf("%s: large write %d of %d", t.name, n+1, t.effort.larges))
		if err := t.large(ctx, n); err != nil {
			return err
		}
	}
	t.begin(t.name + ": reading all of it")
	if err := t.step(ctx, func() error { return t.last(ctx) }); err != nil {
		return err
	}
	return t.step(ctx, func() error { _, err := t.ask(ctx, request{Do: "close"}); return err })
}

// step does our part of a step, and waits until all have done theirs. When it failed for
// one, all end with a *failure.
func (t *trial) step(ctx context.Context, act func() error) error {
	type note struct {
		Err     string `json:"err,omitempty"`
		Refused bool   `json:"refused,omitempty"`
		Full    bool   `json:"full,omitempty"`
	}
	var mine note
	err := act()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errProcess):
		return err
	case err != nil:
		mine = note{Err: err.Error(), Full: isFull(err)}
		if errno := syscall.Errno(0); t.modes[t.Index] == Direct && isRefusal(err) && errors.As(err, &errno) {
			mine = note{Err: "O_DIRECT for any place and length: " + errno.Error(), Refused: true}
		}
	}
	all, err := share(ctx, t.Peers, mine)
	if err != nil {
		return err
	}
	for i, n := range all {
		switch text := fmt.Sprintf("%s: %s", t.Names[i], n.Err); {
		case n.Full:
			return agreedError{fmt.Errorf("%s: nothing can be judged; make room for %s, then check again", text, size(budget))}
		case n.Err != "":
			return &failure{text, n.Refused}
		}
	}
	return nil
}

// isRefusal recognises what a file system says that does not take O_DIRECT.
func isRefusal(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP)
}

// ask has our process do something to the file, which it opens as our mode says.
func (t *trial) ask(ctx context.Context, r request) (answer, error) {
	r.Name = t.file
	if !r.Fresh {
		r.Flags |= t.modes[t.Index].Flags()
	}
	return t.proc.ask(ctx, r)
}

// open has the first machine make the file, and the others open it. It stays open until
// the way was tried.
func (t *trial) open(ctx context.Context) error {
	make := func() error {
		if t.Index != 0 {
			return nil
		}
		_, err := t.ask(ctx, request{Do: "open", Flags: os.O_CREATE | os.O_EXCL})
		return err
	}
	if err := t.step(ctx, make); err != nil {
		return err
	}
	return t.step(ctx, func() error {
		for began := t.now(); ; {
			_, err := t.ask(ctx, request{Do: "open"})
			if !errors.Is(err, os.ErrNotExist) || t.now().Sub(began) > t.Patience {
				return err
			}
			t.begin(t.name + ": the file is not seen yet")
			if err := rest(ctx); err != nil {
				return err
			}
		}
	})
}

// writes tells whether the nth turn is ours.
func (t *trial) writes(n int) bool { return n%len(t.Names) == t.Index }

// turn is a turn's part of each machine: who writes has read before what it follows, and
// so has the page in its cache.
func (t *trial) turn(ctx context.Context, n int) error {
	if n > 0 {
		if err := t.look(ctx, n-1); err != nil {
			return err
		}
	}
	if !t.writes(n) {
		return nil
	}
	_, err := t.ask(ctx, request{Do: "write", Range: n, Count: 1})
	return err
}

// look reads what another machine has just written, as an agent would.
func (t *trial) look(ctx context.Context, n int) error {
	if t.writes(n) {
		return nil
	}
	length, err := t.ask(ctx, request{Do: "length"})
	if err != nil {
		return err
	}
	read, err := t.ask(ctx, request{Do: "read", Range: n})
	if err != nil {
		return err
	}
	t.seen.Reads++
	if _, end := rangeOf(n + 1); length.Size < end {
		t.seen.StaleLengths++
	}
	if !read.Same {
		t.seen.StaleReads++
	}
	return nil
}

// large has one machine write as much as the largest turn has, while the others read.
func (t *trial) large(ctx context.Context, n int) error {
	nothing := func() error { return nil }
	r := request{Range: t.effort.turns + n*large, Count: large}
	if err := t.step(ctx, nothing); err != nil { // all are there
		return err
	}
	write := func() error {
		if !t.writes(n) {
			return nil
		}
		w := r
		w.Do = "block"
		if t.modes[t.Index] == Direct {
			w.Piece = t.chunk
		}
		_, err := t.ask(ctx, w)
		return err
	}
	written := make(chan error, 1)
	go func() { written <- t.step(ctx, write) }() // it is waited for
	failed, err := t.peekUntil(ctx, n, r, written)
	if err != nil {
		return err
	}
	return t.step(ctx, func() error {
		if t.writes(n) || failed != nil {
			return failed
		}
		whole, err := t.peek(ctx, r)
		if err == nil && !whole {
			t.seen.StaleLarge++
		}
		return err
	})
}

// peekUntil reads again and again what another machine writes, until it is written.
// failed is for our part of the next step.
func (t *trial) peekUntil(ctx context.Context, n int, r request, written <-chan error) (failed, err error) {
	for !t.writes(n) && failed == nil {
		select {
		case err := <-written:
			return nil, err
		default:
			_, failed = t.peek(ctx, r)
		}
	}
	return failed, <-written
}

// peek reads what another machine may be writing.
func (t *trial) peek(ctx context.Context, r request) (whole bool, err error) {
	r.Do = "peek"
	a, err := t.ask(ctx, r)
	t.seen.Looks++
	if a.Parts {
		t.seen.Parts++
	}
	return a.Same, err
}

// last reads all of the file: through the descriptor that was open all the time, through
// one opened anew as the mode says, and past the cache where that can be done.
func (t *trial) last(ctx context.Context) error {
	held, err := t.count(ctx, request{})
	if err != nil {
		return err
	}
	anew, err := t.count(ctx, request{Fresh: true, Flags: t.modes[t.Index].Flags()})
	if err != nil {
		return err
	}
	truth, err := t.count(ctx, request{Fresh: true, Flags: unix.O_DIRECT})
	if isRefusal(err) {
		truth, err = anew, nil
	}
	t.seen.Damaged, t.seen.Zeroed, t.seen.DamagedLarge = truth.turns.Bad, truth.turns.Zero, truth.larges.Bad
	t.seen.WrongAtEnd = max(0, held.bad()-truth.bad())
	t.seen.WrongAnew = max(0, anew.bad()-truth.bad())
	return err
}

// counted is what the file held of the turns, and of the large writes.
type counted struct{ turns, larges answer }

func (c counted) bad() int { return c.turns.Bad + c.larges.Bad }

func (t *trial) count(ctx context.Context, r request) (c counted, err error) {
	r.Do, r.Count = "count", t.effort.turns
	if c.turns, err = t.ask(ctx, r); err != nil {
		return c, err
	}
	r.Range, r.Count = t.effort.turns, t.effort.larges*large
	c.larges, err = t.ask(ctx, r)
	return c, err
}
