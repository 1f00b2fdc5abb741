package verify

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// ledger reads the acknowledgement logs along with the file: each log's turns
// rise, so each needs to be read only once, and only one line of it is held.
type ledger struct {
	logs     []*ackLog
	missed   []miss
	disowned []uuid.UUID // incarnations in a preamble: what logs tell of them is no matter
}

// miss is what a log tells of and what did not come where it should. It is lost,
// unless its turn comes later, out of order.
type miss struct {
	log      string
	agent    string
	from, to uint64
	records  int64
	offset   int64
}

const (
	// mostMisses bounds the turns remembered in case they come later.
	mostMisses = 4096
	// mostEchoes bounds the turns remembered in case they are written again.
	mostEchoes = 4
)

// openLedger opens the logs, and so takes their sizes.
func openLedger(paths []string) (*ledger, error) {
	logs, err := openAckLogs(paths)
	if err != nil {
		return nil, fmt.Errorf("read acknowledgement log: %w", err)
	}
	return &ledger{logs: logs}, nil
}

func (l *ledger) close() { closeAckLogs(l.logs) }

// start reads each log's first acknowledgement.
func (l *ledger) start(s *scan) error {
	for _, log := range l.logs {
		if err := l.advance(s, log); err != nil {
			return err
		}
	}
	return nil
}

// again reads the logs from their beginnings, because what they were held against
// turned out to be a preamble.
func (l *ledger) again(s *scan) error {
	l.missed = nil
	for _, log := range l.logs {
		if err := log.rewind(); err != nil {
			return err
		}
	}
	return l.start(s)
}

// advance reads log's next acknowledgement. What is wrong with the log is a
// finding; the reading goes on where the log makes sense again.
func (l *ledger) advance(s *scan, log *ackLog) error {
	for {
		err := log.advance()
		f := Finding{Line: log.line, Turn: log.next.Turn, Log: log.name}
		switch {
		case errors.Is(err, errAckOrder) && compareAcks(log.next, log.prev) == 0:
			f.Kind = Duplicated
			s.find(f, "line %d of turn %d is acknowledged twice.", log.next.Line, log.next.Turn)
			continue
		case errors.Is(err, errAckOrder):
			f.Kind = Reordered
			s.find(f, "turn %d is acknowledged after turn %d: the log is not in order, and the rest of its run is not checked.",
				log.next.Turn, log.prev.Turn)
			err = log.skipRun()
		}
		for err == nil && log.more && slices.Contains(l.disowned, log.run.Incarnation) {
			err = log.skipRun()
		}
		return s.readable(log, err)
	}
}

// readable turns a line that is none into a finding, and ends the log there.
func (s *scan) readable(log *ackLog, err error) error {
	if !errors.Is(err, errAckLine) {
		return err
	}
	log.more = false
	s.find(Finding{Kind: Corrupt, Line: log.line, Log: log.name}, "this line of the log is no acknowledgement: the rest is not checked.")
	return nil
}

// turn checks what the logs tell of p. ahead says that its number is higher than
// all before it.
func (l *ledger) turn(s *scan, p *piece, ahead bool) error {
	if len(l.logs) == 0 {
		return nil
	}
	if !ahead {
		l.missed = slices.DeleteFunc(l.missed, func(m miss) bool { return m.from == p.Turn })
		return nil
	}
	told := false
	for _, log := range l.logs {
		if err := l.catchUp(s, log, p); err != nil {
			return err
		}
		told = told || log.more && log.next.Turn == p.Turn
	}
	if told {
		return l.compare(s, p)
	}
	for _, log := range l.logs {
		if log.more && log.told > 0 && log.run.Agent == p.Agent && len(log.echoes) < mostEchoes {
			log.echoes = append(log.echoes, echo{p.Turn, int64(p.Bytes), p.payload})
		}
	}
	return nil
}

// catchUp takes what log tells of turns before p.
func (l *ledger) catchUp(s *scan, log *ackLog, p *piece) error {
	for log.more && log.next.Turn <= p.Turn {
		id, known := s.currentIncarnation()
		switch ours := !known || log.run.Incarnation == id; {
		case ours && log.next.Turn == p.Turn:
			return nil
		case !ours && (log.next.Turn == p.Turn || !slices.Contains(s.Incarnations, log.run.Incarnation)):
			if err := s.foreignRun(log, p.at, id); err != nil {
				return err
			}
		default:
			m, err := l.drain(s, log, log.next.Turn, p.at)
			if err != nil {
				return err
			}
			if len(l.missed) < mostMisses {
				l.missed = append(l.missed, m)
			} else {
				s.lost(m)
			}
		}
	}
	return nil
}

// foreignRun tells that log's run is not about this file, and leaves it.
func (s *scan) foreignRun(log *ackLog, at int64, id uuid.UUID) error {
	s.find(Finding{Kind: Mismatch, Offset: at, Turn: log.next.Turn, Log: log.name},
		"turn %d was acknowledged to %s in incarnation %s, and the file there is of %s: the log tells of another file.",
		log.next.Turn, log.run.Agent, log.run.Incarnation, id)
	return s.readable(log, log.skipRun())
}

// drain takes all that log's run tells of turns up to one, as missed.
func (l *ledger) drain(s *scan, log *ackLog, upTo uint64, at int64) (miss, error) {
	m := miss{log: log.name, agent: log.run.Agent, from: log.next.Turn, offset: at}
	for run := log.runs; log.more && log.next.Turn <= upTo && log.runs == run; {
		m.to = log.next.Turn
		m.records++
		if err := l.advance(s, log); err != nil {
			return m, err
		}
	}
	return m, nil
}

// checkAcks tells, when the file is read, what the logs tell beyond it.
func (s *scan) checkAcks() error {
	for _, m := range s.acks.missed {
		s.lost(m)
	}
	for _, log := range s.acks.logs {
		for log.more {
			if id, known := s.currentIncarnation(); known && !slices.Contains(s.Incarnations, log.run.Incarnation) {
				if err := s.foreignRun(log, s.stop, id); err != nil {
					return err
				}
				continue
			}
			m, err := s.acks.drain(s, log, ^uint64(0), s.stop)
			if err != nil {
				return err
			}
			s.lost(m)
		}
	}
	return nil
}

func (s *scan) lost(m miss) {
	turns := fmt.Sprintf("turn %d", m.from)
	if m.to != m.from {
		turns = fmt.Sprintf("turns %d to %d", m.from, m.to)
	}
	s.find(Finding{Kind: Lost, Offset: m.offset, Turn: m.from, Log: m.log},
		"%s was told that %s of %s are committed, and they are not in the file.", m.agent, count(m.records, "record"), turns)
}
