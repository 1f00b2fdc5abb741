package fleet

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// What the agent's other goroutine asks of the scribe.

// use gives the scribe a session.
func (s *scribe) use(sess Session) {
	s.mu.Lock()
	s.session = sess
	s.mu.Unlock()
	signal(s.wake)
}

// sess is the session in use, which may be over.
func (s *scribe) sess() Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session
}

// do has the scribe's goroutine do something, when it has done what it is at. Once the
// agent has been in the fleet, a volume that fails is waited for, and the fleet is told.
func (s *scribe) do(ctx context.Context, what func(context.Context) error) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := s.once(ctx, what)
		if !errors.Is(err, errVolume) || !s.entered() {
			if err == nil {
				signal(s.wake) // if something held us up, it no longer does
			}
			return err
		}
		s.publish(ctx, s.sess())
		if err := rest(ctx, pause); err != nil {
			return err
		}
	}
}

func (s *scribe) once(ctx context.Context, what func(context.Context) error) error {
	sess := s.sess()
	ctx, cancel := both(sess.Context(), ctx)
	defer cancel()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	j := job{ctx: ctx, do: what, done: make(chan error, 1)}
	jobs, gone := s.jobs, s.gone
	look := time.NewTicker(s.limit() / 2) // a volume that hangs tells nobody
	defer look.Stop()
	for {
		select { // an answer first: what is there already is not chosen from at random
		case err := <-j.done:
			return err
		default:
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		select {
		case jobs <- j:
			jobs, gone = nil, nil // from now on it is the job that tells
		case err := <-j.done:
			return err
		case <-look.C:
			s.publish(ctx, sess)
		case <-gone:
			return s.fatal()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// named tells the scribe the agent's name.
func (s *scribe) named(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.name = name
}

// enters tells the scribe that the agent's file is the fleet's.
func (s *scribe) enters() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in = true
}

// entered tells whether the agent has been in the fleet.
func (s *scribe) entered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in
}

// called is the agent's name, empty before it was registered.
func (s *scribe) called() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name
}

// add hands over a turn that is committed: on a connection of the session that was in use
// when the commit was sent, or when it was settled.
func (s *scribe) add(t frame.Turn, connection uint64) {
	s.mu.Lock()
	s.under = append(s.under, &entry{Turn: t, session: s.session, connection: connection})
	s.bytes += len(t.Bytes)
	if t.Incarnation == s.head.Incarnation && t.Number > s.head.Turn {
		s.head = s.head.After(t.Header, len(t.Bytes))
		s.head.Start, s.head.Offset = t.Offset, t.End()
	}
	s.mu.Unlock()
	signal(s.wake)
}

// next is the first turn that is not written, nil when there is none.
func (s *scribe) next() *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.under {
		if !e.written {
			return e
		}
	}
	return nil
}

// room tells whether another turn may be committed after one of so many bytes.
func (s *scribe) room(more int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.under)
	if more > 0 {
		n++
	}
	return s.err == nil && n < s.Under && s.bytes+more+s.MaxBytes <= mostUnder && s.heldUp() == ""
}

// ready tells whether a turn may be committed.
func (s *scribe) ready() bool { return s.room(0) }

// idle tells whether all that is committed is acknowledged.
func (s *scribe) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.under) == 0
}

// wait blocks until it is so, the session is over, ctx ends, or the agent must end.
func (s *scribe) wait(ctx context.Context, sess Session, isSo func() bool) error {
	for !isSo() {
		if err := cmp.Or(s.fatal(), sess.Err(), context.Cause(ctx)); err != nil {
			return err
		}
		timer := time.NewTimer(s.limit() / 2) // a volume that hangs tells nobody
		select {
		case <-s.moved:
		case <-timer.C:
		case <-sess.Done():
			timer.Stop()
			return sess.Err()
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
	}
	return nil
}

// seen is where the file ended when it was measured last, and the newest head that we
// know of.
func (s *scribe) seen() (end int64, head frame.Head) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end, s.head
}

// moment is how long a holder waits for its scribe: a volume that hangs, or a scribe that
// has much to write, must not hold up the fleet. A scribe that writes also measures.
const moment = 250 * time.Millisecond

// endNow is where the file ends now. If that cannot be had in a moment the error says why,
// and it is where the file ended when it was measured last, which is never too high.
func (s *scribe) endNow(ctx context.Context) (end int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, moment)
	defer cancel()
	err = s.once(ctx, func(context.Context) error {
		if !s.File.Attached() {
			return nil
		}
		_, err := s.measure()
		return err
	})
	end, _ = s.seen()
	return end, err
}

// takeDrops gives the nodes that may be deleted. If they are not, give them back.
func (s *scribe) takeDrops() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	drops := s.drops
	if len(drops) > 64 {
		drops, s.drops = drops[:64:64], drops[64:]
		return drops
	}
	s.drops, s.dropBytes = nil, 0
	return drops
}

// lineUp tells the scribe whether we have a place in the queue.
func (s *scribe) lineUp(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inLine = yes
}

// dropAll deletes the nodes that may be deleted.
func (s *scribe) dropAll(ctx context.Context, sess Session) error {
	for drops := s.takeDrops(); len(drops) > 0; drops = s.takeDrops() {
		if err := filelock.DropTurns(ctx, sess, drops); err != nil {
			s.giveDrops(drops)
			return err
		}
	}
	return nil
}

// giveDrops gives nodes back that were not deleted. How many bytes they hold is not known
// any more, so they do not wait for long.
func (s *scribe) giveDrops(drops []string) {
	if len(drops) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drops, s.dropBytes = slices.Concat(drops, s.drops), small+1
}

// fatal is why the agent must end, nil when it need not.
func (s *scribe) fatal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *scribe) acknowledged() (turns, records int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.turns, s.records
}

// leave notes in the acknowledgement log what is committed and not acknowledged, and
// counts it. From here on nothing is acknowledged: what is noted as pending is so until
// the next run, though the scribe's goroutine may still be at work, when an operation of
// the volume did not return.
func (s *scribe) leave() (turns, records int) {
	patience := time.NewTimer(s.limit())
	defer patience.Stop()
	noting := false
	select {
	case s.acking <- struct{}{}:
		noting = true
		defer func() { <-s.acking }()
	case <-patience.C: // an acknowledgement is being written, by a disk that hangs
	}
	left, records := s.giveUp()
	switch {
	case s.Acks == nil || len(left) == 0:
	case !noting:
		s.Log.Error("the acknowledgement log does not say what is pending: it does not take what is being written")
	default:
		s.note(left, patience.C)
	}
	return len(left), records
}

// giveUp ends all acknowledging, and tells what was not acknowledged.
func (s *scribe) giveUp() (left []Left, records int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = true
	for _, e := range s.under { // an adoption may have come between them
		run := frame.AckRun{Agent: s.name, Incarnation: e.Incarnation}
		left = append(left, Left{run, frame.Pending{Turn: e.Number, Offset: e.Offset, Sum: e.Header.Sum}})
		records += e.Header.Lines
	}
	return left, records
}

// note writes what is pending into the log. A disk that hangs must not keep the agent from
// ending.
func (s *scribe) note(left []Left, late <-chan time.Time) {
	noted := make(chan error, 1)
	go func() { noted <- s.Acks.Pend(left) }() // ends with the operation, or with the process
	var err error
	select {
	case err = <-noted:
	case <-late:
		err = errors.New("it does not return")
	}
	if err != nil {
		s.Log.Error("the acknowledgement log does not say what is pending: " + err.Error())
	}
}
