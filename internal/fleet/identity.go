package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// look makes sure that what is open is the fleet's file, and that it holds, or ZooKeeper
// has, all that is committed. What looks wrong is looked at again for as long as caches
// and an adoption under way may be the reason.
func (s *scribe) look(ctx context.Context) error {
	var since time.Time // it has looked wrong
	for {
		err := s.lookOnce(ctx)
		if errors.Is(err, errBegun) {
			continue
		}
		var refused *writer.RefusedError
		if !errors.As(err, &refused) || !refused.Late {
			return err
		}
		if !since.IsZero() && time.Since(since) > s.File.Mode.Patience() {
			refused.Sure = true
			return err
		}
		s.File.Detach()
		if since.IsZero() {
			since = time.Now()
			s.Log.Warn("looking again before it is refused", zap.Error(err), zap.Duration("for", s.File.Mode.Patience()))
		}
		if err := rest(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
}

// lookOnce looks once. It alone changes the incarnation that we know: when the file has
// its line, and all else is as it should be. When not, nothing stays open. So what is open
// was always found to be the file of the incarnation that we know.
func (s *scribe) lookOnce(ctx context.Context) error {
	head, _, err := filelock.FreshHead(ctx, s.sess(), s.Root)
	if errors.Is(err, filelock.ErrNoHead) && s.known() == uuid.Nil {
		return s.blank(ctx)
	}
	if errors.Is(err, filelock.ErrNoHead) || errors.Is(err, filelock.ErrHead) {
		return refusedHead(err)
	}
	if err != nil {
		return err
	}
	err = s.attach(ctx, head)
	if err == nil {
		head, err = s.agree(ctx, head)
	}
	if err != nil {
		s.File.Detach()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.head.Incarnation != head.Incarnation {
		s.head = head
	}
	return nil
}

// agree makes sure that what is open, and has the line of head's incarnation, goes on as
// head and turns/ say now. It gives the head of now.
func (s *scribe) agree(ctx context.Context, head frame.Head) (now frame.Head, err error) {
	end, err := s.measure()
	if err != nil {
		return head, err
	}
	now, err = s.fresh(ctx) // after the file was measured
	switch {
	case err != nil:
		return now, err
	case now.Incarnation != head.Incarnation:
		return now, errBegun // whose line nobody has looked for
	}
	return now, s.goesOn(ctx, now, end)
}

// goesOn makes sure that a file that ended there holds, or ZooKeeper has, all that head,
// which was read since, says is committed.
func (s *scribe) goesOn(ctx context.Context, head frame.Head, end int64) error {
	if end > head.Offset {
		return &writer.RefusedError{
			Why:  fmt.Sprintf("%s has %d bytes, and %d are committed: something else writes to the file, or ZooKeeper went back in time", s.File.Path, end, head.Offset),
			Next: "stop what writes there, then `agent adopt` puts those bytes aside and goes on",
		}
	}
	missing, err := s.lacking(ctx, head)
	if err != nil {
		return err
	}
	before := turnAt{head.Turn, head.Start, head.Offset, head.Sum}
	if len(missing) > 0 {
		first := missing[0]
		before = turnAt{first.Number - 1, first.Before, first.Offset, first.Prev}
	}
	if before.start == head.Line {
		return nil // the incarnation's line, which was found
	}
	return s.precedes(ctx, head.Incarnation, before)
}

// blank refuses a file that holds anything, though there is no head: unless there is one
// by now, whose file it is.
func (s *scribe) blank(ctx context.Context) error {
	err := s.volume("look", s.File.Blank)
	if errors.Is(err, writer.ErrRefused) {
		if _, _, none := filelock.FreshHead(ctx, s.sess(), s.Root); !errors.Is(none, filelock.ErrNoHead) {
			return cmp.Or(none, errBegun)
		}
	}
	return err
}

// mayPass tells a refusal that a look which has patience must confirm.
func mayPass(err error) bool {
	var refused *writer.RefusedError
	return errors.As(err, &refused) && refused.Late && !refused.Sure
}

// errBegun says that the file was begun, or adopted, while we looked.
var errBegun = errors.New("the file was begun or adopted just now")

// known is the incarnation that we know: what is open was found to be its file.
func (s *scribe) known() uuid.UUID {
	_, head := s.seen()
	return head.Incarnation
}

// attach opens the file and finds the incarnation's line in it. After it was open before,
// what is not known to be on disk has to be written again.
func (s *scribe) attach(ctx context.Context, head frame.Head) error {
	var first *frame.Turn
	t, err := filelock.ReadTurn(ctx, s.sess(), s.Root, filelock.TurnName{Incarnation: head.Incarnation})
	switch {
	case err == nil:
		first = &t
	case !errors.Is(err, filelock.ErrNoTurn):
		return s.believe(err)
	}
	return s.volume("open", func() error {
		opened, err := s.File.Attach(head, first)
		s.trouble = s.trouble || opened && len(s.unsynced) > 0
		return err
	})
}

// attached makes sure that the file is open, and that the path names it. While there is no
// head there is none to open, and who needs one has a turn that ZooKeeper has forgotten.
func (s *scribe) attached(ctx context.Context) error {
	if s.File.Attached() {
		return s.volume("look", s.File.Same)
	}
	if err := s.look(ctx); err != nil || s.File.Attached() {
		return err
	}
	return refusedHead(filelock.ErrNoHead)
}

// turnAt is a turn as head, or the turn after it, says that it is.
type turnAt struct {
	number     uint64
	start, end int64
	sum        frame.Sum
}

// precedes makes sure that the file has a turn where it should be: a file that was restored
// to an older state may have another turn of the same size there. A turn that is not known
// to be on disk may be damaged: it is in ZooKeeper, and will be written again.
func (s *scribe) precedes(ctx context.Context, i uuid.UUID, t turnAt) error {
	var line []byte
	err := s.volume("read", func() (err error) { line, err = s.File.Line(t.start); return err })
	if err != nil {
		return err
	}
	header, err := frame.ParseHeader(line)
	if err == nil && header.Sum == t.sum && t.start+int64(len(line)+1+header.Bytes) == t.end {
		return nil
	}
	node, err := filelock.ReadTurn(ctx, s.sess(), s.Root, filelock.TurnName{Incarnation: i, Number: t.number})
	switch {
	case err == nil && node.Sum() == t.sum && node.End() == t.end:
		return s.volume("read", func() error { return s.File.Fits(node.Bytes, node.Offset) })
	case err != nil && !errors.Is(err, filelock.ErrNoTurn):
		return s.believe(err)
	}
	return &writer.RefusedError{
		Why:  fmt.Sprintf("%s does not have turn %d at byte %d as it was committed: it was restored to an older state, or swapped", s.File.Path, t.number, t.start),
		Next: writer.NextAdopt, Late: true,
	}
}

// catchUp fills the file up to head: so much is in ZooKeeper that no more is committed
// before.
func (s *scribe) catchUp(ctx context.Context) error {
	err := s.attached(ctx)
	if mayPass(err) { // we have just let go of the turn, and an adoption may have it
		s.parted(err)
		return s.look(ctx)
	}
	if err != nil {
		return err
	}
	head, err := s.fresh(ctx)
	if err != nil {
		return err
	}
	if head.Incarnation != s.known() { // adopted just now: is what is open the file?
		return s.look(ctx)
	}
	missing, err := s.lacking(ctx, head)
	if mayPass(err) {
		s.parted(err)
		return s.look(ctx)
	}
	for _, t := range missing {
		if err != nil {
			return err
		}
		if err = s.put(t); err == nil {
			s.unsynced = append(s.unsynced, t)
		}
	}
	if err == nil {
		_, err = s.measure() // the next hold goes by it
	}
	return err
}
