package history

import "github.com/anishathalye/porcupine"

// final is the read after all appends.
type final struct{}

// over is the state after the read: nobody sees what is appended then.
const over = -1

// model is the log's. Its state is an int, the number of records that are in the log.
func (l *log) model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return 0 },
		Step: func(state, input, _ any) (bool, any) {
			next, ok := 0, false
			switch at := state.(int); input := input.(type) {
			case final:
				next, ok = over, at == len(l.records)
			case *Append:
				next, ok = l.step(at, input)
			}
			if !ok {
				return false, nil
			}
			return true, next
		},
	}
}

// step appends a to a log of that many records.
func (l *log) step(at int, a *Append) (next int, ok bool) {
	switch {
	case at == over:
		return over, a.Turn == 0
	case at == len(l.records), !l.comes(at, a):
		return 0, false
	}
	next = at + len(a.Records)
	// A check that ran out of time may not have ended yet when the next thing happens.
	l.far.Store(max(l.far.Load(), int64(next)))
	return next, true
}

// comes reports whether a can be what the file has at a place: its records, in a turn
// whose number follows, which is the one that a was acknowledged with.
func (l *log) comes(at int, a *Append) bool {
	r := &l.records[at]
	return r.turn == r.due && (a.Turn == 0 || a.Turn == r.turn) && l.holds(at, a)
}
