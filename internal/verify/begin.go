package verify

import (
	"bytes"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

var incarnationBegin = []byte("#turnstile 1 incarnation=")

// begin finds where the chain begins. That is the first line, or, in a file that
// was adopted, an incarnation line that says how many bytes stand before it.
func (s *scan) begin() error {
	if s.stop == 0 {
		return nil
	}
	p, ok, err := s.tape.piece(0)
	switch {
	case err != nil:
		return err
	case ok && p.inc != nil:
		s.beginAt(&p, nil, 1)
		return nil
	case ok:
		s.find(Finding{Kind: Missing, Line: 1}, "the incarnation line that begins a file is not there: the first line is turn %d's.", p.Turn)
		s.order.restart(link{turn: p.Turn - 1})
		return nil
	}
	p, lines, err := s.preamble()
	if err != nil || p.inc == nil {
		return err // without one, the first step tells what is wrong
	}
	return s.beginAfter(&p, lines)
}

// beginAfter begins the chain with the incarnation line p behind a preamble.
func (s *scan) beginAfter(p *piece, line int64) error {
	hash, err := s.tape.hash(0, p.at)
	if err != nil {
		return err
	}
	sum := frame.SumOf(hash)
	s.beginAt(p, &sum, line)
	return nil
}

// adopted takes all before p as a preamble, which p says that it is: somebody
// decided that no turn in it counts, and none of its faults.
func (s *scan) adopted(p *piece) error {
	s.acks.disowned = append(s.acks.disowned, s.Incarnations...)
	s.tally.forget()
	s.order = order{}
	s.short, s.repeat = nil, repeat{}
	if err := s.beginAfter(p, s.line); err != nil {
		return err
	}
	return s.acks.again(s)
}

// beginAt begins the chain with the incarnation line p, which is the given line of
// the file and stands after something with sum prev, or after nothing.
func (s *scan) beginAt(p *piece, prev *frame.Sum, line int64) {
	inc := *p.inc
	s.pos, s.line = p.at, line
	known := true
	switch {
	case inc.Preamble == p.at:
	case p.at == 0:
		s.find(s.here(Missing, p), "the %d bytes that stood before the incarnation line are not there.", inc.Preamble)
		known = false
	default:
		s.find(s.here(Corrupt, p), "the incarnation line says that %d bytes stand before it, and it is %d.", inc.Preamble, p.at)
		inc.Preamble = p.at
	}
	l := link{turn: inc.From - 1, known: known}
	l.add(inc.Seal(prev))
	s.enter(inc, l)
	s.pass(p.end, 1+int64(p.newlines))
	s.fresh = &incarnated{p.at, line, prev}
}

// preamble looks for the incarnation line that says how many bytes stand before
// it; one that says a wrong number will do when there is none that is right.
func (s *scan) preamble() (best piece, bestLine int64, err error) {
	line := int64(1)
	for off := int64(0); off < s.stop; {
		view, err := s.tape.view(off, frame.MaxLine)
		if err != nil || len(view) == 0 {
			return best, bestLine, err
		}
		i := bytes.Index(view, incarnationBegin)
		if i < 0 {
			// The words may begin in this view and end in the next.
			i = max(len(view)-len(incarnationBegin), 1)
			line += int64(bytes.Count(view[:i], newline))
			off += int64(i)
			continue
		}
		line += int64(bytes.Count(view[:i], newline))
		off += int64(i)
		p, ok, err := s.peek.piece(off)
		if err != nil {
			return best, bestLine, err
		}
		if ok && p.inc.Preamble == off && off < s.stop {
			return p, line, nil
		}
		if ok && best.inc == nil && (p.inc.Preamble > 0 || s.split(&p)) {
			best, bestLine = p, line
		}
		off++
	}
	return best, bestLine, nil
}

// split reports whether p is only the first half of an incarnation line, whose
// space before the preamble became a newline, and makes it whole.
func (s *scan) split(p *piece) bool {
	rest, err := s.peek.view(p.end, frame.MaxLine)
	n := bytes.IndexByte(rest, '\n') + 1
	if err != nil || n == 0 || !bytes.HasPrefix(rest, []byte("preamble=")) {
		return false
	}
	p.end += int64(n)
	p.newlines = 1
	return true
}

// headerMarks and incarnationMarks are what such lines hold: one damaged byte
// spoils at most one of them.
var (
	headerMarks      = [][]byte{[]byte(" lines="), []byte(" bytes="), []byte(" token=0x"), []byte(" at="), []byte(" sum=")}
	incarnationMarks = [][]byte{[]byte("#turnstile 1 "), []byte("incarnation="), []byte(" from=")}
)

// resembles reports whether text can be a header or an incarnation line that was
// damaged in one place.
func resembles(text []byte) bool {
	return holds(text, headerMarks) >= len(headerMarks)-1 || holds(text, incarnationMarks) >= len(incarnationMarks)-1
}

func holds(text []byte, marks [][]byte) (n int) {
	for _, m := range marks {
		if bytes.Contains(text, m) {
			n++
		}
	}
	return n
}
