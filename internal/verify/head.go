package verify

import (
	"fmt"
	"strings"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// checkHead compares what was read with head, which judges how far the file is
// committed.
func (s *scan) checkHead() {
	switch d := s.head; {
	case d == nil:
		return
	case s.size < d.Offset:
		s.lostToHead(d)
	case s.pos != d.Offset:
		s.find(Finding{Kind: Mismatch, Offset: d.Offset, Turn: d.Turn},
			"head says that turn %d ends at byte %d, and no turn of the file ends there.", d.Turn, d.Offset)
	default:
		s.compareHead(d)
	}
	s.noteTail()
}

func (s *scan) lostToHead(d *frame.Head) {
	f := Finding{Kind: Lost, Offset: s.size, Turn: d.Turn}
	short := count(d.Offset-s.size, "byte")
	switch last := s.order.max.turn; {
	case s.order.max.has(d.Sum):
		s.find(f, "the file is %s shorter than head says: its last turn is there, but not all before it.", short)
	case last < d.Turn:
		s.find(f, "the file is %s shorter than head says: turn %d was committed, and the file ends with turn %d.", short, d.Turn, last)
	default:
		s.find(f, "the file is %s shorter than head says.", short)
	}
}

// compareHead compares head with the frame that ends where head says.
func (s *scan) compareHead(d *frame.Head) {
	last := s.order.last
	if !last.known && !last.has(d.Sum) {
		return // what stands there is broken, and told
	}
	var differs []string
	differ := func(what string, head, file any) {
		differs = append(differs, fmt.Sprintf("%s %v, the file %v", what, head, file))
	}
	if id, ok := s.currentIncarnation(); ok && id != d.Incarnation {
		differ("incarnation", d.Incarnation, id)
	}
	if !last.has(d.Sum) {
		differ("sum", d.Sum, last.sums[0])
	}
	if last.turn != d.Turn {
		differ("turn", d.Turn, last.turn)
	}
	// An incarnation that has no turn yet has no token in the file.
	if s.clean && s.fresh == nil && s.token != d.Token {
		differ("token", d.Token, s.token)
	}
	if len(differs) == 0 {
		return
	}
	s.find(Finding{Kind: Mismatch, Offset: d.Offset, Line: s.line, Turn: d.Turn},
		"head is not this file's: it has %s.", strings.Join(differs, "; "))
}

// noteTail tells what lies after head. It is no fault: a turn that is being
// written, or one whose writer died before it was committed.
func (s *scan) noteTail() {
	n := s.size - s.head.Offset
	if n <= 0 {
		return
	}
	f := Finding{Kind: Uncommitted, Offset: s.head.Offset}
	text := fmt.Sprintf("%s after head that are not committed: a turn being written, or left by an agent that died; the next turn sets them aside.",
		count(n, "byte"))
	if p, ok, err := s.peek.piece(s.head.Offset); err == nil && ok && p.inc == nil {
		f.Turn = p.Turn
		text = fmt.Sprintf("%s after head that are not committed: turn %d of %s is being written, or its agent died; the next turn sets them aside.",
			count(n, "byte"), p.Turn, p.Agent)
	}
	f.Text = text
	s.Notes = append(s.Notes, f)
}
