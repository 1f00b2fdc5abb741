package fleet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

var errEnd = io.EOF

// Lines is a source that reads records from a stream, one a line. As many as are
// waiting go into one turn, up to the limits; the reader is held up while twice
// that is waiting.
type Lines struct {
	maxRecords, maxBytes int

	mu      sync.Mutex
	tuner   *Tuner        // has its say over maxRecords, when set
	records [][]byte      // read and not yet committed
	bytes   int           // theirs
	taken   int           // of records, how many Take handed out
	under   []int         // of the turns that are committed and not acknowledged: their records
	err     error         // why there will be no more: errEnd, a *RecordError, the stream's
	filled  chan struct{} // capacity 1: something came, or the end
	drained chan struct{} // capacity 1: something went
	stop    chan struct{}
}

// NewLines reads from r until its end, an error, a line that cannot be a record, or
// Stop. A read that blocks in r is not interrupted by Stop: close r for that.
func NewLines(r io.Reader, maxRecords, maxBytes int) *Lines {
	l := &Lines{
		maxRecords: maxRecords, maxBytes: maxBytes,
		filled: make(chan struct{}, 1), drained: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	go l.read(bufio.NewReaderSize(r, frame.MaxRecord+2))
	return l
}

// Tune makes the most records of a turn follow tuner.
func (l *Lines) Tune(tuner *Tuner) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tuner = tuner
}

// most is how many records a turn may have; the caller has the lock.
func (l *Lines) most() int {
	if l.tuner == nil {
		return l.maxRecords
	}
	now, _ := l.tuner.Get()
	return now.MaxRecords
}

// Stop makes the reader end at its next line.
func (l *Lines) Stop() { close(l.stop) }

func (l *Lines) read(r *bufio.Reader) {
	for n := 1; ; n++ {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			l.finish(errEnd)
			return
		case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull):
			l.finish(fmt.Errorf("read line %d of the input: %w", n, err))
			return
		}
		record := bytes.Clone(bytes.TrimSuffix(line, []byte("\n")))
		refused := frame.CheckRecord(record)
		if errors.Is(err, bufio.ErrBufferFull) { // the rest of it was not read
			refused = fmt.Errorf("a record of more than %d bytes", frame.MaxRecord)
		}
		if refused != nil {
			l.finish(&RecordError{Line: n, Err: refused})
			return
		}
		if !l.add(record) {
			return
		}
	}
}

// add queues a record when there is room; false when stopped.
func (l *Lines) add(record []byte) bool {
	for {
		l.mu.Lock()
		room := len(l.records) < 2*l.most() && l.bytes < 2*l.maxBytes
		if room {
			l.records = append(l.records, record)
			l.bytes += len(record) + 1
		}
		l.mu.Unlock()
		if room {
			signal(l.filled)
			return true
		}
		select {
		case <-l.drained:
		case <-l.stop:
			return false
		}
	}
}

func (l *Lines) finish(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	signal(l.filled)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *Lines) Wait(ctx context.Context) error {
	for {
		l.mu.Lock()
		waiting, err := len(l.records), l.err
		l.mu.Unlock()
		switch {
		case waiting > 0:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-l.filled:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (l *Lines) Take(uint64) [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = 0
	size := 0
	for _, r := range l.records[:min(len(l.records), l.most())] {
		if size += len(r) + 1; size > l.maxBytes {
			break
		}
		l.taken++
	}
	return l.records[:l.taken:l.taken]
}

func (l *Lines) With() []any { return nil }

func (l *Lines) Gone(int) bool { return true }

func (l *Lines) More() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.records) > l.taken
}

func (l *Lines) Committed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records[:l.taken] {
		l.bytes -= len(r) + 1
	}
	l.under = append(l.under, l.taken)
	l.records = l.records[l.taken:]
	l.taken = 0
	signal(l.drained)
}

func (l *Lines) Back() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = 0
}

func (l *Lines) Ack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.under = l.under[1:]
}

func (l *Lines) Pending() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.records)
	for _, records := range l.under {
		n += records
	}
	return n
}
