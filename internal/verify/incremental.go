package verify

import (
	"context"
	"errors"
	"io"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// ErrStale says that a checkpoint is not of this file under this head: the file is shorter
// than what was judged, head is behind it, or head is of another incarnation. Judge it from
// the beginning.
var ErrStale = errors.New("what was judged before is not this file's beginning")

// Checkpoint is how far a file was judged, and nothing wrong was found: the state of the
// reading at the end of the last committed turn. The zero value is a file's beginning. It
// is never changed, so it may be gone on from more than once.
type Checkpoint struct {
	head  frame.Head
	pos   int64
	line  int64
	last  link
	token frame.Token
	clean bool
	inc   *frame.Incarnation
	fresh *incarnated
	tally *tally
}

// Offset is where the judging goes on, in bytes from the file's beginning.
func (c Checkpoint) Offset() int64 { return c.pos }

// Head is the one that the file was judged against.
func (c Checkpoint) Head() frame.Head { return c.head }

// Receipt says what the checkpoint knows to be committed.
func (c Checkpoint) Receipt() Receipt { return Receipt{Turn: c.head.Turn, Offset: c.head.Offset} }

// Resume judges the size bytes of r up to head, which was read before size was taken. It
// goes on from a checkpoint, so that only what is new since is read; what was judged
// before is taken as it was. The report counts the whole file. opt.Head and opt.Acks play
// no part.
//
// When nothing is wrong the checkpoint is the next to go on from, otherwise it is the one
// given. A fault may be told less exactly than by Reader, which sees what is before.
func Resume(ctx context.Context, r io.ReaderAt, size int64, from Checkpoint, head frame.Head, opt Options) (Report, Checkpoint, error) {
	if from.pos > 0 && (head.Incarnation != from.head.Incarnation || head.Offset < from.pos || head.Turn < from.head.Turn || size < from.pos) {
		return Report{}, from, ErrStale
	}
	s := newScan(ctx, r, size, &head, &ledger{}, opt)
	defer s.ahead.stop()
	if from.pos > 0 {
		s.goOnFrom(from)
	}
	if err := s.run(); err != nil {
		return s.finish(), from, err
	}
	s.checkOrder()
	s.checkReceipt(opt.Receipt)
	s.checkHead(true)
	report := s.finish()
	if report.OK() && s.pos == head.Offset {
		return report, s.checkpoint(), nil
	}
	return report, from, nil
}

// checkpoint is for a scan at its end, in which nothing was wrong: then there are no gaps,
// and the last turn is the highest.
func (s *scan) checkpoint() Checkpoint {
	return Checkpoint{
		head: *s.head, pos: s.pos, line: s.line, last: s.order.last, token: s.token, clean: s.clean,
		inc: s.inc, fresh: s.fresh, tally: s.tally,
	}
}

func (s *scan) goOnFrom(c Checkpoint) {
	s.pos, s.line, s.told, s.seen, s.calm = c.pos, c.line, c.pos, c.pos, c.pos+calmBytes
	s.order.restart(c.last)
	s.token, s.clean, s.inc, s.fresh = c.token, c.clean, c.inc, c.fresh
	s.tally.adopt(c.tally)
}

// adopt takes over what another tally counted.
func (t *tally) adopt(from *tally) {
	t.Turns, t.Records, t.Bytes, t.First, t.Last = from.Turns, from.Records, from.Bytes, from.First, from.Last
	t.Incarnations = append(t.Incarnations, from.Incarnations...)
	for name, a := range from.agents {
		count := *a
		t.agents[name] = &count
	}
}
