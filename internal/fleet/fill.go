package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// patience is how long to wait for an agent's own writing before its turn is written in
// its stead.
type patience struct {
	most  time.Duration // 0: not at all, until then
	until time.Time
}

const (
	firstPatience = 20 * time.Millisecond
	mostPatience  = time.Second
	impatience    = 5 * time.Second // for how long one is not waited for who did not write
)

// vain is how long was waited for owners who could have written and did not, of late: a host
// that hangs may have many agents, and all of them together hold up others for mostPatience.
type vain struct {
	waited time.Duration
	until  time.Time // when it is forgotten; zero when nothing was waited for
}

// lately is for how long an owner is waited for who is well. After a longer wait it was
// somebody else, perhaps, who wrote.
const lately = 200 * time.Millisecond

// left is how much longer may be waited in vain.
func (v *vain) left() time.Duration {
	if time.Now().After(v.until) {
		*v = vain{}
	}
	return mostPatience - v.waited
}

func (v *vain) add(waited time.Duration) {
	if v.until.IsZero() {
		v.until = time.Now().Add(impatience)
	}
	v.waited += waited
}

// measure tells where the file ends.
func (s *scribe) measure() (end int64, err error) {
	err = s.volume("measure", func() error { end, err = s.File.End(); return err })
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.end = end
	s.mu.Unlock()
	return end, nil
}

// fill brings the file up to where a turn begins, so that a reader never meets a gap. What
// is missing is others' to write first: while the file grows they are at it. When it has
// not grown for a while, who is next to the gap closes it; others see that and wait on.
//
// Every turn that is written comes by here, and is of the incarnation whose file is open.
// One of another was committed before an adoption, and is in the file already.
func (s *scribe) fill(ctx context.Context, t frame.Turn) error {
	if t.Incarnation != s.known() {
		return s.adopted(t)
	}
	last, since, pause := int64(-1), time.Now(), firstLook
	for {
		end, err := s.measure()
		if err != nil || end >= t.Offset {
			return err
		}
		if end != last {
			last, since, pause = end, time.Now(), firstLook
		}
		if time.Since(since) < stall(t.Offset-end) {
			err = rest(ctx, pause)
			pause = min(2*pause, 16*firstLook)
		} else {
			err = s.close(ctx, t, since)
		}
		if err != nil {
			return err
		}
	}
}

// adopted makes sure that the file has a turn that was committed before it was adopted.
func (s *scribe) adopted(t frame.Turn) error {
	end, err := s.measure()
	if err != nil {
		return err
	}
	there := make([]byte, len(t.Bytes))
	if end >= t.End() {
		err = s.volume("read", func() error { return s.File.Read(there, t.Offset) })
	}
	if err == nil && !bytes.Equal(there, t.Bytes) {
		err = &writer.RefusedError{
			Why:  fmt.Sprintf("turn %d was committed, and %s, which was adopted since, does not hold it", t.Number, s.File.Path),
			Next: "nothing was changed; its records are in no other turn: look beside the file for what `agent adopt` has saved, or write them again",
		}
	}
	return err
}

const firstLook = time.Millisecond // then twice as long, and so on

// stall is for how long a file may not grow before somebody closes the gap who is so many
// bytes away from it.
func stall(distance int64) time.Duration {
	return min(8*time.Millisecond+time.Duration(distance)*time.Microsecond, 500*time.Millisecond)
}

// close writes what is missing before a turn, unless the file grows meanwhile: then others
// are at it, and fill looks on. It goes back turn by turn, and waits at each for a moment, so
// that of many who wait behind one that is late only the nearest read as far as its turn. When
// the file has stood still for mostPatience, nobody in between is waited for.
func (s *scribe) close(ctx context.Context, t frame.Turn, still time.Time) error {
	end, err := s.measure()
	var missing []frame.Turn
	waited := map[uuid.UUID]bool{} // for whom, though others come before it
	for before := t; ; before = missing[len(missing)-1] {
		var m *frame.Turn
		if err == nil {
			m, err = s.before(ctx, before, end)
		}
		if err != nil {
			return err
		}
		if m == nil {
			break
		}
		var grown bool
		if m.Offset <= end {
			grown, err = s.waitFor(ctx, *m)
		} else if !waited[m.Run] && time.Since(still) < mostPatience {
			grown, err = s.passBy(ctx, *m, end)
			waited[m.Run] = true
		}
		if err != nil || grown {
			return err
		}
		missing = append(missing, *m)
	}
	for _, m := range slices.Backward(missing) {
		if err := s.writeFor(m); err != nil {
			return err
		}
	}
	return nil
}

// writeFor writes a turn of somebody else, unless the file has it by now, or not what comes
// before it any more.
func (s *scribe) writeFor(t frame.Turn) error {
	end, err := s.measure()
	if err != nil || end >= t.End() || end < t.Offset {
		return err
	}
	if err := s.put(t); err != nil {
		return err
	}
	s.unsynced = append(s.unsynced, t)
	return nil
}

// passBy waits a moment for the file to grow beyond end. Before this turn another is missing,
// for which its owner waits too. Nothing is learnt of it.
func (s *scribe) passBy(ctx context.Context, t frame.Turn, end int64) (grown bool, err error) {
	p, known := s.waits[t.Run.String()]
	if s.isOurs(t.Run) || known && p.most == 0 && time.Now().Before(p.until) {
		return false, nil
	}
	if works, err := s.works(ctx, t); err != nil || !works {
		return false, err
	}
	return s.growth(ctx, end, firstPatience)
}

// growth waits for the file to grow beyond end.
func (s *scribe) growth(ctx context.Context, end int64, most time.Duration) (grown bool, err error) {
	began, pause := time.Now(), 5*time.Millisecond
	for left := most; left > 0; left, pause = most-time.Since(began), 2*pause {
		if err := rest(ctx, min(pause, left)); err != nil {
			return false, err
		}
		if now, err := s.measure(); err != nil || now > end {
			return err == nil, err
		}
	}
	return false, nil
}

// waitFor waits for the owner of the turn that the file lacks next: not at all when it is not
// at work, did not write lately, or too long was waited in vain; else for as long as proves
// worth it.
func (s *scribe) waitFor(ctx context.Context, t frame.Turn) (grown bool, err error) {
	owner := t.Run.String()
	p, known := s.waits[owner]
	if !known || p.most == 0 && time.Now().After(p.until) {
		p.most = firstPatience
	}
	most := min(p.most, s.vain.left())
	if s.isOurs(t.Run) || most <= 0 {
		return false, nil
	}
	if works, err := s.works(ctx, t); err != nil || !works {
		return false, err
	}
	began := time.Now()
	if grown, err = s.growth(ctx, t.Offset, most); err != nil {
		return false, err
	}
	waited := time.Since(began)
	if grown {
		if waited > lately {
			s.vain.add(waited)
		}
		s.waits[owner] = patience{most: min(2*p.most, mostPatience)}
		return true, nil
	}
	if len(s.waits) > 1000 { // agents come and go
		clear(s.waits)
	}
	s.vain.add(waited)
	if most == p.most { // else it had less time than it is known to need
		s.waits[owner] = patience{until: time.Now().Add(impatience)}
	}
	return false, nil
}

// before reads the turn before another, nil when the file has it: it ended at end. No node
// for it means: somebody has written it, so look at the file again. Only if a look begun after
// that answer is still short was data lost, or is this another volume.
func (s *scribe) before(ctx context.Context, t frame.Turn, end int64) (*frame.Turn, error) {
	return s.ending(ctx, filelock.TurnName{Incarnation: t.Incarnation, Number: t.Number - 1}, t.Offset, t.Prev, end)
}

// ending is as before, for the turn that ends at an offset, with the chain at sum, which
// vouches for it, as it vouches for the one before it.
func (s *scribe) ending(ctx context.Context, n filelock.TurnName, to int64, sum frame.Sum, end int64) (*frame.Turn, error) {
	if end >= to {
		return nil, nil
	}
	t, err := filelock.ReadTurn(ctx, s.sess(), s.Root, n)
	switch {
	case errors.Is(err, filelock.ErrNoTurn):
		if end, err = s.measure(); err == nil && end < to {
			err = s.lost(end, to, n.Number)
		}
		return nil, err
	case err != nil:
		return nil, s.believe(err)
	case t.End() != to || t.Sum() != sum:
		return nil, s.believe(&filelock.TurnError{Node: s.Root.Turn(n.Incarnation, n.Number), Err: errors.New("it does not lead to what was committed after it")})
	}
	return &t, nil
}

// lacking reads the committed turns that the file lacks, up to head, in the file's order.
func (s *scribe) lacking(ctx context.Context, head frame.Head) (turns []frame.Turn, err error) {
	end, err := s.measure()
	if err != nil {
		return nil, err
	}
	t, err := s.ending(ctx, filelock.TurnName{Incarnation: head.Incarnation, Number: head.Turn}, head.Offset, head.Sum, end)
	for err == nil && t != nil {
		turns = append(turns, *t)
		t, err = s.before(ctx, *t, end)
	}
	slices.Reverse(turns)
	return turns, err
}

func (s *scribe) lost(end, to int64, n uint64) error {
	return &writer.RefusedError{
		Why:  fmt.Sprintf("%s has %d bytes, %d are committed, and ZooKeeper does not have turn %d any more: data was lost, or this is another volume", s.File.Path, end, to, n),
		Next: writer.NextAdopt, Late: true,
	}
}

// believe makes a refusal of a turn's node that was altered. That reading it is not
// allowed, or failed, is not that.
func (s *scribe) believe(err error) error {
	var turn *filelock.TurnError
	if !errors.As(err, &turn) {
		return err
	}
	return &writer.RefusedError{
		Why:  turn.Error(),
		Next: "nothing was changed; find out who wrote there, then `agent adopt` puts the node aside and goes on from what the file holds",
	}
}

// confirm makes sure that the answer to a turn's commit still holds: while the connection
// that it came on is in use, and the session lives, ZooKeeper cannot have gone back. Else
// a quorum is asked for head.
func (s *scribe) confirm(ctx context.Context, e *entry) error {
	sess := s.sess()
	connection := sess.Connections()
	if err := sess.Err(); err != nil || e.session == sess && e.connection == connection && sess.Connected() {
		return err
	}
	head, err := s.fresh(ctx)
	if err != nil {
		return err
	}
	switch stands, err := s.stands(ctx, head, e.Turn); {
	case err != nil:
		return err
	case !stands:
		return &writer.RefusedError{
			Why:  fmt.Sprintf("turn %d was committed, and ZooKeeper does not know of it any more: it went back in time", e.Number),
			Next: writer.NextAdopt,
		}
	}
	e.session, e.connection = sess, connection
	return nil
}

// fresh reads head behind a quorum. One older than we have seen is refused. That of another
// incarnation than we know says nothing of the file that is open: only a look takes it over.
func (s *scribe) fresh(ctx context.Context) (frame.Head, error) {
	_, before := s.seen() // what the other goroutine commits meanwhile does not count
	head, _, err := filelock.FreshHead(ctx, s.sess(), s.Root)
	if errors.Is(err, filelock.ErrNoHead) || errors.Is(err, filelock.ErrHead) {
		return head, refusedHead(err)
	}
	if err != nil {
		return head, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if before.Incarnation == head.Incarnation && head.Turn < before.Turn {
		return head, &writer.RefusedError{
			Why:  fmt.Sprintf("ZooKeeper says that turn %d is the last, and turn %d was committed: it went back in time", head.Turn, before.Turn),
			Next: writer.NextAdopt,
		}
	}
	if s.head.Incarnation == head.Incarnation && s.head.Turn < head.Turn {
		s.head = head
	}
	return head, nil
}

// rest waits a moment for what has no event.
func rest(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
