package verify

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// scan is the state of one reading.
type scan struct {
	*tally
	ctx  context.Context
	head *frame.Head
	acks *ledger
	tell func(done, total int64)
	lay  *overlay // the file, with what it lacks

	ahead    ahead
	tape     *tape // the judge's own reading, where ahead did not get
	side     *tape // looks elsewhere without disturbing tape
	far      *tape // walks on from a bad place
	peek     *tape // looks at single lines anywhere
	budget   int64 // bytes that may still be read again to explain faults,
	patience int64 // and to judge what lies within a frame that was judged
	seen     int64 // how far frames were measured
	calm     int64 // from here on reading ahead is worth it,
	calmer   int64 // and so far further when it was not
	told     int64 // how far Progress knows

	size int64 // the file's, with what the turns add to its end
	from int64 // where this reading began,
	goal int64 // and how far it is to be judged
	stop int64 // what begins here or later is not judged, for now
	pos  int64 // what comes next,
	line int64 // and its line number

	order   order
	token   frame.Token // the highest in this incarnation
	clean   bool        // the frame before pos is whole and its sum fits
	inc     *frame.Incarnation
	fresh   *incarnated // the incarnation line, while it stands just before pos
	suspect bool        // the incarnation line may be damaged: its ID proves nothing
	start   int64       // where what was taken last begins: a frame or an incarnation line
	begun   int64       // where the incarnation line begins
	whole   *Checkpoint // how far nothing was wrong and nothing lacks, when turns lack
	repeat  repeat      // turns that appear again, while they do
	short   []shortfall // torn turns whose lines may still turn up
	current piece       // room for a frame that was not read ahead
}

// incarnated is an incarnation line that no frame has confirmed yet.
type incarnated struct {
	at, line int64
	prev     *frame.Sum // of what stands before it
}

func newScan(ctx context.Context, r *overlay, head *frame.Head, acks *ledger, opt Options) *scan {
	size := r.end
	s := &scan{
		tally: newTally(opt.MaxFindings), ctx: ctx, head: head, acks: acks, tell: opt.Progress, lay: r,
		tape: newTape(r, size, longView), side: newTape(r, size, longView),
		far: newTape(r, size, longView), peek: newTape(r, size, shortView),
		budget: 2*size + 64<<20, patience: 4*size + 64<<20, calm: calmBytes, calmer: calmBytes,
		size: size, stop: size, line: 1,
	}
	if head != nil {
		s.stop = min(head.Offset, size)
	}
	s.goal = s.stop
	s.ahead.r, s.ahead.size = r, size
	s.Size, s.Judged, s.Headed, s.asked = r.size, min(s.stop, r.size), head != nil, opt.Head != nil
	return s
}

// readAll judges all up to head: first what comes before the turns that the file lacks.
func (s *scan) readAll() error {
	if gap := s.lay.gap; gap < s.goal {
		s.stop = gap
		if err := s.run(); err != nil {
			return err
		}
		if s.OK() && s.pos == gap {
			c := s.checkpoint()
			s.whole = &c
		}
	}
	s.stop = s.goal
	return s.run()
}

// run judges what begins before stop.
func (s *scan) run() error {
	s.ahead.stopAt = s.stop
	if s.pos == 0 { // else it goes on from a checkpoint
		if err := s.begin(); err != nil {
			return err
		}
	}
	s.sound()
	for s.pos < s.stop {
		err := s.step()
		if errors.Is(err, errHopeless) {
			s.find(Finding{Kind: Corrupt, Offset: s.pos, Line: s.line}, "headers within frames, over and over: the rest is not judged.")
			return nil
		}
		if err != nil {
			return err
		}
		s.sound()
		if s.pos-s.told >= batchSize {
			s.told = s.pos
			if err := context.Cause(s.ctx); err != nil {
				return err
			}
			if s.tell != nil {
				s.tell(min(s.pos, s.goal), s.goal)
			}
		}
	}
	if s.tell != nil {
		s.tell(s.stop, s.goal)
	}
	return nil
}

// sound notes how far nothing was wrong, and nothing lacks.
func (s *scan) sound() {
	if s.FaultCount == 0 && s.pos <= s.lay.gap {
		s.Sound = Sound{End: s.pos, Turn: s.order.last.turn, Sum: s.order.last.sums[0]}
	}
}

// step judges what stands at pos.
func (s *scan) step() error {
	p, err := s.read()
	switch {
	case err != nil:
		return err
	case p == nil:
		return s.stray()
	case p.inc != nil:
		return s.incarnation(p)
	case p.end > s.size:
		return s.broken(p)
	}
	fits, must := s.order.sealed(p)
	switch {
	case fits && p.whole():
		return s.accept(p, true)
	case fits:
		s.find(s.here(Corrupt, p), "turn %d of %s promises %s and has %d, although its sum fits: it was written that way.",
			p.Turn, p.Agent, count(p.Lines, "line"), p.newlines)
		return s.accept(p, true)
	case p.whole() && s.boundary(p.end):
		return s.unsealed(p, must)
	}
	return s.broken(p)
}

// read gives the piece at pos, its records measured, or nil when no piece begins
// there.
func (s *scan) read() (*piece, error) {
	if p := s.ahead.at(s.pos); p != nil {
		return p, nil
	}
	p, ok, err := s.tape.piece(s.pos)
	if err != nil || !ok {
		return nil, err
	}
	s.current = p
	if p.inc != nil || p.end > s.size {
		return &s.current, nil
	}
	s.patience -= max(0, min(p.end, s.seen)-p.body)
	s.seen = max(s.seen, p.end)
	if s.patience < 0 {
		return nil, errHopeless
	}
	if p.end >= s.calm && p.end < s.stop {
		s.ahead.begin(s.ctx, p.end)
		s.calmer = min(2*s.calmer, mostCalm)
		s.calm = p.end + s.calmer
	}
	return &s.current, s.tape.measure(&s.current)
}

// errHopeless ends the reading of a file whose headers promise frames within
// frames, over and over.
var errHopeless = errors.New("too many frames within frames")

// accept takes p as a whole frame and goes on behind it. sealed says that its sum
// fits the chain.
func (s *scan) accept(p *piece, sealed bool) error {
	before := s.order.last.turn
	how, skip := s.order.place(s.order.sums(p, sealed), func(from, to uint64) *skip { return s.open(p, from, to) })
	ahead := how == inOrder || how == skipped
	switch {
	case how == again:
		s.again(p)
	case how == late:
		s.late(p, skip, before)
	case sealed && p.Token <= s.token:
		s.find(s.here(Reordered, p), "turn %d has token %s and comes after token %s: in one incarnation tokens rise.",
			p.Turn, p.Token, s.token)
	}
	if sealed && ahead {
		s.token = max(s.token, p.Token)
	}
	// What is in ZooKeeper only does not count: an acknowledged record must be in the file.
	if !s.lay.misses(p.at, p.end) {
		s.count(p)
		if err := s.acks.turn(s, p, ahead); err != nil {
			return err
		}
	}
	s.checkNode(p)
	s.clean, s.start = sealed, p.at
	s.pass(p.end, 1+int64(p.newlines))
	return nil
}

// pass goes on at pos, some lines further.
func (s *scan) pass(pos, lines int64) {
	s.pos = pos
	s.line += lines
	s.fresh = nil
}

// incarnation takes the incarnation line p.
func (s *scan) incarnation(p *piece) error {
	inc, next := *p.inc, s.order.max.turn+1
	if inc.Preamble == p.at {
		return s.adopted(p)
	}
	if s.inc != nil && *s.inc == inc {
		s.find(s.here(Duplicated, p), "the line of incarnation %s stands there a second time.", inc.ID)
		s.pass(p.end, 1)
		return nil
	}
	if inc.Preamble != 0 {
		s.find(s.here(Corrupt, p), "the incarnation line speaks of %d bytes that no turn covers, but turns stand before it.", inc.Preamble)
	}
	before := s.order.last
	l := link{turn: next - 1, known: before.known && inc.From == next}
	for i := range before.n {
		l.add(inc.Seal(&before.sums[i]))
	}
	s.enter(inc, l)
	s.pass(p.end, 1)
	s.fresh = &incarnated{p.at, s.line - 1, &before.sums[0]}
	return nil
}

// enter begins an incarnation, its chain at l.
func (s *scan) enter(inc frame.Incarnation, l link) {
	s.order.restart(l)
	s.token = 0
	s.inc, s.suspect = &inc, false
	s.start, s.begun = s.pos, s.pos
	s.tally.incarnation(inc.ID)
}

// here is a finding about p, which stands at pos.
func (s *scan) here(kind Kind, p *piece) Finding {
	return Finding{Kind: kind, Offset: p.at, Line: s.line, Turn: p.Turn}
}

// currentIncarnation is what the file says it is at pos; false when its line is
// damaged or missing.
func (s *scan) currentIncarnation() (uuid.UUID, bool) {
	if s.inc == nil || s.suspect {
		return uuid.Nil, false
	}
	return s.inc.ID, true
}

// boundary reports whether a frame may end at off: there the judged part ends, or
// a line begins that is a header.
func (s *scan) boundary(off int64) bool {
	if off == s.stop || off == s.size {
		return true
	}
	_, ok, err := s.peek.piece(off)
	return ok && err == nil
}
