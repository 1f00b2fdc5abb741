package fleet

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/intake"
)

var errEnd = io.EOF

// LinesOptions for Lines. The first two are required.
type LinesOptions struct {
	MaxRecords, MaxBytes int // of a turn

	Intake intake.Options
	// Together is for how long a group of lines, once nothing follows it, is held back for
	// more that belongs to it. Only where Intake.Start says what begins a group.
	Together time.Duration
}

// Lines is a source that reads records from a stream, one a line. As many as are waiting go
// into one turn, up to the limits; the reader is held up while twice that is waiting. Lines
// that belong together, by Intake.Start, go into one turn, within the limits.
type Lines struct {
	LinesOptions
	in    *intake.Reader
	ended chan struct{} // closed when nothing is read any more

	mu      sync.Mutex
	tuner   *Tuner     // has its say over MaxRecords, when set
	groups  [][][]byte // read and not yet committed
	open    bool       // more may belong to the last group
	grown   time.Time  // that one, last
	last    int        // its bytes
	cut     int        // groups that were longer than a turn
	records int        // in all groups
	bytes   int        // theirs
	taken   int        // of groups, how many Take handed out
	under   []int      // of the turns that are committed and not acknowledged: their records
	unread  [][]byte   // the records of a line that was read when there was no room any more
	err     error      // why there will be no more: errEnd, a *intake.RecordError, the stream's
	stopped bool
	filled  chan struct{} // capacity 1: something came, or the end
	drained chan struct{} // capacity 1: something went
	stop    chan struct{}
}

// NewLines reads from r, each line a record, until its end, an error, a line that cannot be a
// record, or Stop. A read that blocks in r is not interrupted by Stop: close r for that.
func NewLines(r io.Reader, maxRecords, maxBytes int) *Lines {
	return Read(r, LinesOptions{MaxRecords: maxRecords, MaxBytes: maxBytes})
}

// Read is NewLines with more to say.
func Read(r io.Reader, opts LinesOptions) *Lines {
	l := &Lines{
		LinesOptions: opts, in: intake.New(r, opts.Intake), ended: make(chan struct{}),
		filled: make(chan struct{}, 1), drained: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	go l.read()
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
		return l.MaxRecords
	}
	now, _ := l.tuner.Get()
	return now.MaxRecords
}

// Stop makes the reader end at its next line: what waits is the last.
func (l *Lines) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stopped {
		l.stopped = true
		close(l.stop)
	}
}

// Counts tells what became of lines that could not be records, and how many groups were longer
// than a turn.
func (l *Lines) Counts() (intake.Counts, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.in.Counts(), l.cut
}

func (l *Lines) read() {
	defer close(l.ended)
	for {
		line, err := l.in.Next()
		if err != nil {
			if errors.Is(err, intake.ErrUnfinished) {
				err = errEnd
			}
			l.finish(err)
			return
		}
		if !l.add(line) {
			l.finish(errEnd)
			return
		}
	}
}

// add queues a line's records when there is room; false when stopped.
func (l *Lines) add(line intake.Line) bool {
	size := 0
	for _, r := range line.Records {
		size += len(r) + 1
	}
	for {
		l.mu.Lock()
		room := l.whole() == 0 || l.records < 2*l.most() && l.bytes < 2*l.MaxBytes
		if room {
			l.put(line, size)
		}
		l.mu.Unlock()
		if room {
			signal(l.filled)
			return true
		}
		select {
		case <-l.drained:
		case <-l.stop:
			l.mu.Lock()
			l.unread = line.Records
			l.mu.Unlock()
			return false
		}
	}
}

// put adds a line to the last group, or begins one; the caller has the lock.
func (l *Lines) put(line intake.Line, size int) {
	last := len(l.groups) - 1
	joins := l.open && !line.Begins // an open group was never taken
	if joins && (len(l.groups[last])+len(line.Records) > l.most() || l.last+size > l.MaxBytes) {
		joins = false
		l.cut++
	}
	if joins {
		l.groups[last] = append(l.groups[last], line.Records...)
	} else {
		l.groups, l.last = append(l.groups, line.Records), 0
	}
	l.last += size
	l.records += len(line.Records)
	l.bytes += size
	if l.open = !line.Ends || l.Intake.Start != nil; l.open {
		l.grown = time.Now()
	}
}

func sizeOf(group [][]byte) (size int) {
	for _, r := range group {
		size += len(r) + 1
	}
	return size
}

// whole is how many groups are complete; the caller has the lock. One that was found complete
// stays so: somebody may queue for a turn with it.
func (l *Lines) whole() int {
	if l.open && (l.err != nil || time.Since(l.grown) >= l.Together) {
		l.open = false
	}
	if l.open && len(l.groups) > 0 {
		return len(l.groups) - 1
	}
	return len(l.groups)
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
		waiting, open, err, due := l.whole(), len(l.groups), l.err, l.Together-time.Since(l.grown)
		l.mu.Unlock()
		switch {
		case waiting > 0:
			return nil
		case err != nil:
			return err
		}
		var complete <-chan time.Time
		if open > 0 {
			complete = time.After(due)
		}
		select {
		case <-l.filled:
		case <-complete:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (l *Lines) Take(uint64) (records [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = 0
	size := 0
	for _, group := range l.groups[:l.whole()] {
		size += sizeOf(group)
		if l.taken > 0 && (size > l.MaxBytes || len(records)+len(group) > l.most()) {
			break
		}
		records = append(records, group...)
		l.taken++
	}
	return records
}

func (l *Lines) With() []any { return nil }

func (l *Lines) Gone(int) bool { return true }

func (l *Lines) More() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.whole() > l.taken
}

func (l *Lines) Committed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	records := 0
	for _, group := range l.groups[:l.taken] {
		records += len(group)
		l.bytes -= sizeOf(group)
	}
	l.records -= records
	l.under = append(l.under, records)
	l.groups = l.groups[l.taken:]
	l.taken = 0
	signal(l.drained)
}

func (l *Lines) Back() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = 0
}

// First is Committed and Ack for so many records of what Take gave last, where they are sent one
// after the other, and not in one turn.
func (l *Lines) First(records int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for records > 0 && len(l.groups) > 0 {
		n := min(records, len(l.groups[0]))
		l.bytes -= sizeOf(l.groups[0][:n])
		l.records -= n
		records -= n
		if l.groups[0] = l.groups[0][n:]; len(l.groups[0]) == 0 {
			l.groups = l.groups[1:]
		}
	}
	l.taken = 0
	signal(l.drained)
}

func (l *Lines) Ack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.under = l.under[1:]
}

// Pending is how many records were read and not yet acknowledged.
func (l *Lines) Pending() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.records
	for _, records := range l.under {
		n += records
	}
	return n
}

// Leftover is what was read and not committed, as it was read.
type Leftover struct {
	Text  []byte
	Lines int // the last may not have ended

	// Doubt is what stands before it, of which it is not known whether it was committed.
	Doubt      []byte
	DoubtLines int
}

// Left is what was read and not committed. Of that the first doubt records may be committed; below
// zero: all that Take gave last. It is for after Stop, when nothing reads any more; it waits for
// that. When ctx ends first what stands in the reader is not known, and the error says so.
func (l *Lines) Left(ctx context.Context, doubt int) (left Leftover, err error) {
	select {
	case <-l.ended:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if doubt < 0 {
		doubt = 0
		for _, group := range l.groups[:l.taken] {
			doubt += len(group)
		}
	}
	for _, group := range append(l.groups[:len(l.groups):len(l.groups)], l.unread) {
		for _, r := range group {
			raw, ends := l.in.Decode(r)
			if ends {
				raw = append(slices.Clip(raw), '\n')
			}
			if doubt > 0 {
				doubt--
				left.Doubt = append(left.Doubt, raw...)
				left.DoubtLines++
			} else {
				left.Text = append(left.Text, raw...)
				left.Lines++
			}
		}
	}
	if err == nil {
		rest := l.in.Rest()
		left.Text = append(left.Text, rest...)
		left.Lines += intake.Count(rest)
	}
	return left, err
}
