package verify

import (
	"context"
	"errors"
	"io"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// ErrStale says that a checkpoint is not of this file under this head: the file lacks bytes
// of what was judged, head is behind it, or head is of another incarnation. Judge it from
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
	start int64
	begun int64
	tally *tally
}

// Offset is where the judging goes on, in bytes from the file's beginning.
func (c Checkpoint) Offset() int64 { return c.pos }

// Head is the one that the file was judged against.
func (c Checkpoint) Head() frame.Head { return c.head }

// Resume judges the size bytes of r up to head, which was read with the turns before size
// was taken, and which there must be. It goes on from a checkpoint, so that only what is
// new since is read; what was judged before is taken as it was. The report counts the
// whole file. opt.Head, opt.Turns and opt.Acks play no part.
//
// When nothing is wrong the checkpoint is the next to go on from, just before the first
// turn that the file lacks; otherwise it is the one given. A fault may be told less
// exactly than by Reader, which sees what is before.
func Resume(ctx context.Context, r io.ReaderAt, size int64, from Checkpoint, seen Sight, opt Options) (Report, Checkpoint, error) {
	head := seen.Head
	if from.pos > 0 && (head.Incarnation != from.head.Incarnation || head.Offset < from.pos || head.Turn < from.head.Turn || size < from.pos) {
		return Report{}, from, ErrStale
	}
	over, err := lay(r, size, seen)
	if err != nil {
		return Report{}, from, err
	}
	if over.gap < from.pos {
		return Report{}, from, ErrStale // what was in the file is gone from it
	}
	s := newScan(ctx, over, head, &ledger{}, opt)
	s.asked = true
	defer s.ahead.stop()
	if from.pos > 0 {
		s.goOnFrom(from)
	}
	if err := s.judge(ctx, opt); err != nil {
		return s.finish(), from, err
	}
	next := from
	switch report := s.finish(); {
	case !report.OK():
	case over.gap < head.Offset && s.whole != nil:
		next = *s.whole
	case over.gap >= head.Offset && s.pos == head.Offset:
		next = s.checkpoint()
	}
	return s.Report, next, nil
}

// checkpoint is for a scan in which nothing was wrong so far, at the end of a turn: then
// there are no gaps, and the last turn is the highest.
func (s *scan) checkpoint() Checkpoint {
	counted := newTally(s.room)
	counted.adopt(s.tally)
	return Checkpoint{
		head: *s.head, pos: s.pos, line: s.line, last: s.order.last, token: s.token, clean: s.clean,
		inc: s.inc, fresh: s.fresh, start: s.start, begun: s.begun, tally: counted,
	}
}

func (s *scan) goOnFrom(c Checkpoint) {
	s.from, s.pos, s.line, s.told, s.seen, s.calm = c.pos, c.pos, c.line, c.pos, c.pos, c.pos+calmBytes
	s.order.restart(c.last)
	s.token, s.clean, s.inc, s.fresh, s.start, s.begun = c.token, c.clean, c.inc, c.fresh, c.start, c.begun
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
