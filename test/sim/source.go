package sim

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"time"
)

// source is what an agent has to write: every record is unlike all others.
type source struct {
	p       *proc
	batches [][][]byte
	pauses  []time.Duration // before each
	from    time.Time       // since when it rests
	rested  int             // how many of them are over
	at      int             // how many batches are committed
	turn    uint64          // for which a batch was given out last
	calls   []call
	under   []int // committed and not acknowledged: which calls
	most    int   // how many of them there may be
	stays   bool  // waits at its end until all others have come to theirs
	told    bool  // SIGTERM
}

// call is an append as the agent's user sees it.
type call struct {
	agent            string
	began, completed int // steps; completed is 0 while it is not acknowledged
	turn             uint64
	records          [][]byte
}

func newSource(p *proc, turns int) *source {
	s := &source{p: p}
	for i := range turns {
		var records [][]byte
		for j := range 1 + p.w.tape.pick(2) {
			records = append(records, fmt.Appendf(nil, "record %d of batch %d of %s", j+1, i+1, p.name))
		}
		if p.w.tape.chance(4) { // looks like a header, and is longer than a sector
			records = append(records, fmt.Appendf(nil, "#turn %d %s batch %d %01000d", i, p.name, i+1, 0))
		}
		s.batches = append(s.batches, records)
		s.pauses = append(s.pauses, []time.Duration{0, 0, 0, 400 * time.Millisecond, 4 * time.Second}[p.w.tape.pick(5)])
	}
	return s
}

func (s *source) Wait(ctx context.Context) error {
	s.p.step("reading its input")
	if s.at >= len(s.batches) {
		return s.stay(ctx)
	}
	if s.rested <= s.at && s.pauses[s.at] > 0 {
		if s.from.IsZero() { // a Wait that was interrupted goes on
			s.from = time.Now()
		}
		select {
		case <-time.After(s.pauses[s.at] - time.Since(s.from)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	s.rested, s.from = s.at+1, time.Time{}
	return cmp.Or(context.Cause(ctx), s.p.ctx.Err())
}

// stay is the end of the input. The last agent waits for all others.
func (s *source) stay(ctx context.Context) error {
	if !s.stays {
		return io.EOF
	}
	select {
	case <-s.p.w.cleared:
	case <-ctx.Done():
		select { // both may come at one moment, and select chooses at random then
		case <-s.p.w.cleared:
		default:
			return context.Cause(ctx)
		}
	}
	return io.EOF
}

func (s *source) Take(turn uint64) [][]byte {
	s.p.gate("taking records")
	s.turn = turn
	if len(s.calls) <= s.at {
		s.calls = append(s.calls, call{agent: s.p.name, began: s.p.w.steps(), records: s.batches[s.at]})
	}
	return s.batches[s.at]
}

func (s *source) With() []any { return nil }

func (s *source) Gone(int) bool { return true }

func (s *source) More() bool { return s.at+1 < len(s.batches) && s.pauses[s.at+1] == 0 }

func (s *source) Committed() {
	s.p.gate("noting a commit")
	s.committed(s.at)
	s.at++
}

func (s *source) committed(which int) {
	s.calls[which].turn = s.turn
	s.under = append(s.under, which)
	if len(s.under) > s.most {
		s.p.w.fail("%s has %d turns under way, and may have %d", s.p.name, len(s.under), s.most)
	}
}

func (s *source) Back() { s.p.gate("taking records back") }

func (s *source) Ack() {
	s.p.gate("noting an acknowledgement")
	c := &s.calls[s.under[0]]
	s.under = s.under[1:]
	c.completed = s.p.w.steps()
	s.p.w.acknowledged(s.p, c)
}

// done tells whether all is written and acknowledged.
func (s *source) done() bool {
	return s.at >= len(s.batches) && len(s.under) == 0 && s.p.w.emptied()
}

func lines(records [][]byte) []byte {
	return append(bytes.Join(records, []byte("\n")), '\n')
}
