package history

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"sync/atomic"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// log is the file as the read returned it.
type log struct {
	records []record

	far atomic.Int64 // how many of them the longest order explained
}

// record is one record, and where it stands.
type record struct {
	text  []byte
	agent string
	line  int    // within its turn, from 1
	turn  uint64 // what its header says,
	due   uint64 // and what it has to say when no turn is skipped
}

// read takes the file apart.
func read(file []byte) (*log, error) {
	l := &log{}
	var due uint64
	for rest := file; len(rest) > 0; {
		at := len(file) - len(rest)
		line, after, whole := bytes.Cut(rest, newline)
		if !whole {
			return nil, fmt.Errorf("byte %d: the last line has no newline", at)
		}
		rest = after
		h, err := frame.ParseHeader(line)
		if at == 0 || err != nil {
			inc, err := frame.ParseIncarnation(line)
			if err != nil {
				return nil, fmt.Errorf("byte %d: neither a turn nor an incarnation begins there: %w", at, err)
			}
			if at == 0 {
				due = inc.From // of a later one the turns' numbers go on
			}
			continue
		}
		if h.Bytes > len(rest) {
			return nil, fmt.Errorf("byte %d: turn %d promises %d bytes and has %d", at, h.Turn, h.Bytes, len(rest))
		}
		if err := l.add(h, due, rest[:h.Bytes]); err != nil {
			return nil, fmt.Errorf("byte %d: turn %d: %w", at, h.Turn, err)
		}
		rest = rest[h.Bytes:]
		due++
	}
	return l, nil
}

// add takes a turn's records.
func (l *log) add(h frame.Header, due uint64, body []byte) error {
	text, ok := bytes.CutSuffix(body, newline)
	if !ok {
		return errors.New("its last record has no newline")
	}
	lines := bytes.Split(text, newline)
	if len(lines) != h.Lines {
		return fmt.Errorf("it promises %d lines and has %d", h.Lines, len(lines))
	}
	for i, text := range lines {
		l.records = append(l.records, record{text, h.Agent, i + 1, h.Turn, due})
	}
	return nil
}

var newline = []byte{'\n'}

// holds reports whether a's records stand together at a place, as a's agent wrote
// them, in whatever turn.
func (l *log) holds(at int, a *Append) bool {
	if len(a.Records) > len(l.records)-at {
		return false
	}
	for i, text := range a.Records {
		r := &l.records[at+i]
		if r.due != l.records[at].due || r.agent != a.Agent || !bytes.Equal(r.text, text) {
			return false
		}
	}
	return true
}

// find gives the first place where a stands in its turn, or the number of records.
func (l *log) find(a *Append) int {
	at := sort.Search(len(l.records), func(i int) bool { return l.records[i].due >= a.Turn })
	for ; at < len(l.records) && l.records[at].due == a.Turn; at++ {
		if l.holds(at, a) {
			return at
		}
	}
	return len(l.records)
}
