package verify

import (
	"fmt"
	"strings"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// checkReceipt holds file and head to what the volume knows of them.
func (s *scan) checkReceipt(r *Receipt) {
	switch {
	case r == nil:
	case s.size < r.Offset:
		s.find(Finding{Kind: Lost, Offset: s.size, Turn: r.Turn},
			"the fence beside the file says that turn %d was committed and ends at byte %d: %s are gone.", r.Turn, r.Offset, count(r.Offset-s.size, "byte"))
	case s.head != nil && s.head.Turn < r.Turn:
		s.find(Finding{Kind: Mismatch, Offset: s.head.Offset, Turn: r.Turn},
			"head says turn %d, but the fence beside the file says that turn %d was committed: ZooKeeper went back in time.", s.head.Turn, r.Turn)
	}
}

// checkHead compares what was read with head, which judges how far the file is
// committed. That there is none, when it was asked for, is a finding if there are
// turns that it should know.
func (s *scan) checkHead(asked bool) {
	switch d := s.head; {
	case d == nil:
		if asked && s.Turns > 0 {
			s.find(Finding{Kind: Mismatch, Offset: s.size},
				"ZooKeeper has no head for this fleet: it was wiped, or the file is another fleet's.")
		}
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
	what := "being written, or left by an agent that died"
	if p, ok, err := s.peek.piece(s.head.Offset); err == nil && ok && p.inc == nil {
		f.Turn = p.Turn
		what = fmt.Sprintf("turn %d of %s, which is being written, or its agent died", p.Turn, p.Agent)
		if p.end < s.size {
			what = fmt.Sprintf("turn %d of %s and more, written since head was read", p.Turn, p.Agent)
		}
	}
	f.Text = fmt.Sprintf("%s after head, not judged: %s.", count(n, "byte"), what)
	s.Notes = append(s.Notes, f)
}
