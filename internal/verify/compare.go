package verify

import (
	"crypto/sha256"
	"slices"
)

// comparison is of one turn's records with the logs that tell of the turn.
type comparison struct {
	*scan
	p       *piece
	tellers []teller
	doubled bool // two logs tell of the same record
}

// teller is a log that tells of the turn, and what it knew before: reading on may
// bring it to its next run.
type teller struct {
	*ackLog
	agent   string
	echoes  []echo
	found   bool // it told of a record that is there
	refuted bool // it told of one that is not
}

// compare reads p's records again and compares them with what the logs tell.
func (l *ledger) compare(s *scan, p *piece) error {
	c := comparison{scan: s, p: p}
	for _, log := range l.logs {
		if log.tells(p.Turn) {
			c.tellers = append(c.tellers, teller{ackLog: log, agent: log.run.Agent, echoes: log.echoes})
			log.echoes = nil
		}
	}
	w := lines{tape: s.far, off: p.body, to: p.end}
	for n := 1; w.off < p.end && c.wanted(); n++ {
		from := w.off
		if err := w.next(); err != nil {
			return err
		}
		hash, err := s.far.hash(from, w.off-1)
		if err != nil {
			return err
		}
		if err := c.record(n, hash); err != nil {
			return err
		}
	}
	for i := range c.tellers {
		if err := c.done(&c.tellers[i]); err != nil {
			return err
		}
	}
	return nil
}

func (l *ackLog) tells(turn uint64) bool { return l.more && l.next.Turn == turn }

// wanted reports whether a log tells of further records of the turn.
func (c *comparison) wanted() bool {
	return slices.ContainsFunc(c.tellers, func(t teller) bool { return t.tells(c.p.Turn) })
}

// record compares the n-th record, which has this hash.
func (c *comparison) record(n int, hash [sha256.Size]byte) error {
	told := 0
	for i := range c.tellers {
		t := &c.tellers[i]
		if !t.tells(c.p.Turn) || t.next.Line != n {
			continue
		}
		f := Finding{Offset: c.p.at, Line: c.line + int64(n), Turn: c.p.Turn, Log: t.name}
		if told++; told > 1 && !c.doubled {
			c.doubled = true
			f.Kind = Duplicated
			c.find(f, "line %d of turn %d is acknowledged in another log too: two agents take it for their own.", n, c.p.Turn)
		}
		if t.next.Hash == hash {
			c.Acknowledged++
			t.found = true
		} else if !t.refuted {
			t.refuted = true
			f.Kind = Lost
			c.find(f, "%s was told that its record is line %d of turn %d, and another one stands there.", t.agent, n, c.p.Turn)
		}
		if err := c.acks.advance(c.scan, t.ackLog); err != nil {
			return err
		}
	}
	return nil
}

// done tells of records that the turn does not have, and of turns written twice.
func (c *comparison) done(t *teller) error {
	if t.tells(c.p.Turn) {
		line := t.next.Line
		if _, err := c.acks.drain(c.scan, t.ackLog, c.p.Turn, c.p.at); err != nil {
			return err
		}
		c.find(Finding{Kind: Lost, Offset: c.p.at, Line: c.line, Turn: c.p.Turn, Log: t.name},
			"%s was told that its record is line %d of turn %d, which has only %d.", t.agent, line, c.p.Turn, c.p.Lines)
	}
	if !t.found {
		return nil
	}
	for _, e := range t.echoes {
		if err := c.echoed(t, e); err != nil {
			return err
		}
	}
	return nil
}

// echoed tells when an earlier turn of the agent, which it never acknowledged
// although it acknowledged turns before and after, has the records that this one
// begins with: then they were written twice. Without the same records nothing is
// proved, for another process may have had the agent's name for a while.
func (c *comparison) echoed(t *teller, e echo) error {
	if e.bytes > int64(c.p.Bytes) {
		return nil
	}
	hash, err := c.far.hash(c.p.body, c.p.body+e.bytes)
	if err == nil && hash == e.payload {
		c.find(Finding{Kind: Duplicated, Offset: c.p.at, Line: c.line, Turn: c.p.Turn, Log: t.name},
			"turn %d repeats the records of turn %d, which %s wrote and never acknowledged: they were written twice.",
			c.p.Turn, e.turn, c.p.Agent)
	}
	return err
}
