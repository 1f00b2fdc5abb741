package adopt

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// make makes the copy, or brings it up to what is known by now: with what ZooKeeper has
// and the file lacks, without what has no place in it, with the new incarnation's line. On
// a nil error it is on disk and verified, and a.head is what is to be published.
func (a *adoption) make(ctx context.Context) error {
	from, limit := a.basis.end, int64(-1)
	for tries := 0; ; tries++ {
		if err := a.copyFile(ctx, from, limit); err != nil {
			return err
		}
		atStep("copied")
		if err := a.complete(ctx); err != nil {
			return err
		}
		end, err := a.copy.End()
		if err != nil {
			return err
		}
		if end == a.basis.end {
			break
		}
		if tries == 3 {
			return fmt.Errorf("%s does not stand still; stop what writes to it, then type it again", a.File.Path)
		}
		// Bytes that have no place stand behind: nothing is cut off, so copy less.
		if err := a.discard(); err != nil {
			return err
		}
		a.copy, from, limit = nil, 0, a.basis.end
	}
	if !a.AcceptLoss && !a.AsPreamble {
		if err := a.checkLoss(ctx); err != nil {
			return err
		}
	}
	return a.seal(ctx)
}

// copyFile copies the file, or from an offset on what became new since.
func (a *adoption) copyFile(ctx context.Context, from, limit int64) (err error) {
	what := "copying " + a.File.Path
	tell := func(done, total int64) { a.Tell(what, done, total) }
	a.Tell(what, 0, 0)
	if a.copy != nil {
		return a.copy.Extend(ctx, from, -1, tell)
	}
	a.copy, err = a.files.Copy(ctx, limit, tell)
	return err
}

// complete writes the turns that have nodes and that the copy lacks, and finds a.basis: how
// far it is whole then.
func (a *adoption) complete(ctx context.Context) error {
	var over []writer.Range
	for {
		if err := a.fill(); err != nil {
			return err
		}
		atStep("filled")
		b, err := a.survey(ctx)
		if err != nil {
			return err
		}
		next := a.continues(b)
		if next == nil || len(over) > 0 && over[len(over)-1].From == next.Offset { // it did not help
			a.basis = b
			a.basis.over = over
			return a.judge(ctx)
		}
		// What stands there is neither the turn's nor zeros: somebody else's bytes, or
		// bytes that were damaged before they were known to be on disk.
		over = append(over, writer.Range{From: next.Offset, To: next.End()})
		if err := a.copy.Write(next.Bytes, next.Offset); err != nil {
			return err
		}
	}
}

// fill writes those turns whose place is certain: what stands before them is what they
// say, and where they belong is nothing but themselves, parts of them, or zeros.
func (a *adoption) fill() error {
	for _, n := range a.nodes {
		if n.turn == nil {
			continue
		}
		follows, err := a.copy.Follows(*n.turn)
		if err != nil {
			return err
		}
		fits, err := a.copy.Fits(n.turn.Bytes, n.turn.Offset)
		if err != nil {
			return err
		}
		if !follows || !fits {
			continue
		}
		if err := a.copy.Write(n.turn.Bytes, n.turn.Offset); err != nil {
			return err
		}
	}
	return nil
}

// continues is the turn that goes on from where the copy is whole, by its number, its place
// and its sum; nil when there is none.
func (a *adoption) continues(b basis) *frame.Turn {
	for _, n := range a.nodes {
		switch t := n.turn; {
		case t == nil || b.preamble && t.Number > 0:
		case t.Number == 0 && b.preamble && !a.AsPreamble && a.known.head.Incarnation == t.Incarnation && a.known.head.Turn > 0:
			return t // turns were committed, and somebody else was quicker to write
		case t.Number == b.turn+1 && t.Offset == b.end && b.end > 0 && t.Prev == b.sum && !b.whole:
			return t
		}
	}
	return nil
}

// seal appends the new incarnation's line, makes the copy durable and verifies it.
func (a *adoption) seal(ctx context.Context) error {
	i := frame.Incarnation{ID: a.files.ID, From: a.basis.turn + 1}
	var prev *frame.Sum
	if a.basis.end > 0 {
		prev = &a.basis.sum
	}
	if a.basis.preamble {
		i.Preamble = a.basis.end
	}
	a.head = frame.Begin(i, a.basis.end, prev, agentName, time.Now())
	if err := a.copy.Write([]byte(i.Line()+"\n"), a.basis.end); err != nil {
		return err
	}
	atStep("line")
	if err := a.copy.Sync(); err != nil {
		return err
	}
	atStep("synced")
	r, err := a.verify(ctx, "verifying the copy")
	if err != nil {
		return err
	}
	if !r.OK() || r.Sound.End != a.head.Offset || r.Sound.Turn != a.head.Turn || r.Sound.Sum != a.head.Sum || r.Size != a.head.Offset {
		return fmt.Errorf("the copy of %s is not as it was made: the verifier finds it whole up to byte %d of %d, want %d; nothing was changed; look at the volume (`agent check-volume`)",
			a.File.Path, r.Sound.End, r.Size, a.head.Offset)
	}
	atStep("verified")
	return nil
}

// save puts what has no place in the copy into files of their own, and makes them durable.
func (a *adoption) save(ctx context.Context) error {
	a.result.Saved, a.result.Notes = nil, nil
	a.noteTurns()
	lost, err := placeless(a.nodes, a.copy)
	if err != nil {
		return err
	}
	if err := a.saveLost(lost); err != nil {
		return err
	}
	if err := a.saveForeign(ctx); err != nil {
		return err
	}
	return a.files.SyncDir()
}

// noteTurns says which turns are kept though head does not know them, or given up though
// it does.
func (a *adoption) noteTurns() {
	known, has := a.known.head.Turn, a.basis.turn
	switch {
	case a.known.edition == none || a.known.edition == damaged || a.basis.preamble:
	case has > known:
		a.result.Notes = append(a.result.Notes, fmt.Sprintf("turns %d to %d stand behind head in the file: they are kept", known+1, has))
	case has < known:
		a.result.Notes = append(a.result.Notes, fmt.Sprintf("turns %d to %d were committed and are given up", has+1, known))
	}
}

func (a *adoption) saveLost(lost []node) error {
	if len(lost) == 0 {
		return nil
	}
	name, err := a.files.Save(a.files.Lost(), lostText(lost))
	if err != nil {
		return err
	}
	said := fmt.Sprintf("%s: nodes of turns/ that have no place in the file, %d from %s on", name, len(lost), lost[0].path)
	if !slices.Contains(a.result.Saved, said) {
		a.result.Saved = append(a.result.Saved, said)
	}
	return nil
}

// saveForeign saves the bytes of the file that are not in the copy.
func (a *adoption) saveForeign(ctx context.Context) error {
	end, err := a.copy.SourceEnd()
	if err != nil {
		return err
	}
	var parts []writer.Range
	size := int64(0)
	for _, r := range append(a.basis.over, writer.Range{From: a.basis.end, To: end}) {
		r.To = min(r.To, end)
		holds, err := a.copy.Holds(ctx, r, a.basis.end)
		if err != nil {
			return err
		}
		if !holds {
			parts, size = append(parts, r), size+r.To-r.From
		} else if r.To > r.From && r.From >= a.basis.end {
			a.result.Notes = append(a.result.Notes, fmt.Sprintf("%d bytes at byte %d were zeros, and are left out", r.To-r.From, r.From))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	name, err := a.copy.SaveForeign(ctx, parts)
	if err == nil {
		a.result.Saved = append(a.result.Saved, fmt.Sprintf("%s: %d bytes that no turn covers, at byte %d of the file", name, size, parts[0].From))
	}
	return err
}
