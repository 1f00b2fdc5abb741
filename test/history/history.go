// Package history checks what the callers of a fleet were told against what the file
// holds: is there one order of all appends that explains both? It stands beside
// internal/verify, from which it shares nothing but the format, and the two must
// agree. It serves tests only.
//
// # The model
//
// An append-only log. An append puts its records behind all that is there, and its
// output is the turn it was acknowledged with. When all is over, one read returns the
// file. Porcupine looks for an order of these operations that a log could have executed
// one after the other, in which whatever returned before something else was called also
// comes before it.
//
// The state is one number, how many records are in the log, because the model foretells:
// an append may come next only if its records are what the file holds at that place. A
// log forgets and moves nothing, so an append that puts anything else there is on no way
// to the read that returned this file. The verdict is that of a model that carries the
// contents along and compares them at the read (a test holds it to one), but a wrong
// order is left at its first step, and twenty thousand turns are checked in a second.
// (Memory grows with the square: porcupine keeps a bit for each append at each step,
// 50 MB for twenty thousand. Let a turn be one append, not each record.)
//
// # Appends that nobody heard of again
//
// They may have happened or not, and porcupine decides: they return at the end of time,
// so they may come before the read, where the file must hold them, or after it, where
// nobody can see them. Nothing is looked up in the file beforehand. An append can be in
// the order once only, so one that is in the file twice is not explained, acknowledged
// or not.
//
// # What it does not look at
//
// Sums, tokens and times in the file, which are the verifier's business. Records that are
// the same in several appends are judged rightly, but when the verdict is no, every way
// of telling them apart is tried first: let records be unique.
package history

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// Unknown is when an append returned whose return nobody saw.
const Unknown int64 = math.MaxInt64

var (
	// ErrNotLinearizable is wrapped when no order of the appends explains the file.
	ErrNotLinearizable = errors.New("not linearizable")
	// ErrUndecided is wrapped when the time was over before an order was found.
	ErrUndecided = errors.New("undecided")
)

// Append is one call of a caller, however often the fleet wrote it anew until it was
// committed. What was refused for certain is none: it must not be in the file.
type Append struct {
	Agent   string
	Records [][]byte // one or more, which stand together within one turn
	Call    int64    // when it was asked for, in nanoseconds or ticks of a clock common to all
	Return  int64    // when it was acknowledged, by the same clock; Unknown when nobody saw that
	Turn    uint64   // what it was acknowledged with; 0 when it was not, as far as anybody knows
}

// Check returns nil when the appends and the file are the history of a log: every
// record of the file comes from an append, no append is in it twice, the acknowledged
// ones are there at their turns, and each stands behind all that had returned when it
// was called. Two that met at the same instant count as concurrent.
//
// file is what is committed, up to head's offset, from the incarnation line on. A
// timeout of 0 is none. Errors other than ErrNotLinearizable and ErrUndecided mean that
// the file cannot be read, or an append makes no sense.
func Check(file []byte, appends []Append, timeout time.Duration) error {
	l, err := read(file)
	if err != nil {
		return fmt.Errorf("read the file: %w", err)
	}
	operations, err := operations(appends)
	if err != nil {
		return err
	}
	switch porcupine.CheckOperationsTimeout(l.model(), operations, timeout) {
	case porcupine.Ok:
		return nil
	case porcupine.Illegal:
		return fmt.Errorf("%w: %s", ErrNotLinearizable, l.explain(appends))
	default:
		return fmt.Errorf("%w after %v: %d appends", ErrUndecided, timeout, len(appends))
	}
}

// operations are the appends, and the read at the end of time: after all that returned,
// and concurrent with what did not.
func operations(appends []Append) ([]porcupine.Operation, error) {
	ops := make([]porcupine.Operation, 0, len(appends)+1)
	for i := range appends {
		a := &appends[i]
		if err := a.check(); err != nil {
			return nil, fmt.Errorf("append %d, of %s: %w", i, a.Agent, err)
		}
		ops = append(ops, porcupine.Operation{Input: a, Call: a.Call, Return: a.Return})
	}
	return append(ops, porcupine.Operation{Input: final{}, Call: Unknown, Return: Unknown}), nil
}

func (a *Append) check() error {
	switch {
	case len(a.Records) == 0:
		return errors.New("it has no records")
	case a.Turn == 0 && a.Return != Unknown:
		return fmt.Errorf("it returned at %d without a turn: leave it out if it was refused, or let Return be Unknown", a.Return)
	case a.Return < a.Call:
		return fmt.Errorf("it returned at %d and was called at %d", a.Return, a.Call)
	}
	return nil
}
