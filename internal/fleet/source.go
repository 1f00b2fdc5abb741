package fleet

import (
	"context"
	"fmt"
	"time"
)

// Source is where an agent's records come from. It hands each record out once, turn by
// turn; what it has handed out stays its own to give again until it is told that the turn
// was committed. Several turns may be committed and not yet acknowledged.
//
// The agent calls the methods one at a time, but for Ack, which it may call from another
// goroutine meanwhile.
type Source interface {
	// Wait blocks until Take has something to give. io.EOF says that nothing more
	// will come, an *intake.RecordError that what comes next cannot be a record.
	Wait(ctx context.Context) error
	// Take gives the next records, for a turn, at least one after Wait returned nil.
	Take(turn uint64) [][]byte
	// With gives the operations that belong to what Take gave: they happen in the
	// transaction that commits it, or neither does. Nil is the usual answer.
	With() []any
	// Gone tells that an operation of With, counted from 0, was refused, because somebody
	// else has done what it does, and whether Take has something to give without it. Back
	// was called before.
	Gone(at int) bool
	// More tells whether, once what Take gave is committed, the next Wait would
	// return nil at once. The agent then takes its next place with the commit.
	More() bool
	// Committed tells that what Take gave last is committed. It must not be given again.
	Committed()
	// Back tells that what Take gave last was not committed, nor ever will be: Take gives
	// it again.
	Back()
	// Ack tells that what was committed first, and not acknowledged, is on disk.
	Ack()
}

// Ticker is a source for show: every turn has a few lines that say who wrote them.
type Ticker struct {
	Agent func() string // asked at each turn
	Lines int           // a turn, at most
	Bytes int           // a turn, at most; 0: no bound
	Pace  time.Duration // from one turn's records to the next's; 0: as fast as it goes
	Turns int           // how many, 0: no end

	// Tuner, when set, has its say over Lines and Pace.
	Tuner *Tuner

	taken int       // turns committed
	beat  time.Time // of the turn before
}

// Tune makes the ticker follow tuner.
func (t *Ticker) Tune(tuner *Tuner) { t.Tuner = tuner }

// tuning is what goes for now, and what is closed when it does no longer.
func (t *Ticker) tuning() (Tuning, <-chan struct{}) {
	if t.Tuner == nil {
		return Tuning{Lines: t.Lines, Pace: t.Pace}, nil
	}
	return t.Tuner.Get()
}

func (t *Ticker) Wait(ctx context.Context) error {
	for {
		if t.done(t.taken) {
			return errEnd
		}
		now, changed := t.tuning()
		wait := time.Until(t.beat.Add(now.Pace))
		if wait <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			return nil
		case <-changed: // perhaps the pace
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

func (t *Ticker) Take(turn uint64) [][]byte {
	now := time.Now().UTC().Format("2006-01-02 15:04:05.000")
	var records [][]byte
	size := 0
	tuning, _ := t.tuning()
	for i := range tuning.Lines {
		r := fmt.Appendf(nil, "%s  %s  turn %d  line %d of %d", now, t.Agent(), turn, i+1, tuning.Lines)
		if size += len(r) + 1; t.Bytes > 0 && size > t.Bytes && i > 0 {
			break
		}
		records = append(records, r)
	}
	return records
}

func (t *Ticker) With() []any { return nil }

func (t *Ticker) More() bool {
	now, _ := t.tuning()
	return now.Pace == 0 && !t.done(t.taken+1)
}

func (t *Ticker) Gone(int) bool { return true }

func (t *Ticker) Back() {}

func (t *Ticker) Ack() {}

// Committed moves on to the next beat of a steady rhythm, so that agents with the same
// pace have the same number of turns; a beat that has passed is not made up for.
func (t *Ticker) Committed() {
	t.taken++
	tuning, _ := t.tuning()
	now, due := time.Now(), t.beat.Add(tuning.Pace)
	t.beat = due
	if due.Add(tuning.Pace).Before(now) || due.After(now) { // or the pace was changed
		t.beat = now
	}
}

func (t *Ticker) done(taken int) bool { return t.Turns > 0 && taken >= t.Turns }
