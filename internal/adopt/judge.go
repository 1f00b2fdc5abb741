package adopt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// basis is what the new incarnation goes on from.
type basis struct {
	end      int64     // how far the copy is whole
	turn     uint64    // the last turn in it
	sum      frame.Sum // where its chain stands; of a preamble, its own
	whole    bool      // nothing is wrong up to its end
	preamble bool      // no frame covers any of it
	report   verify.Report
	over     []writer.Range // where turns were written over other bytes
}

// survey finds how far the copy is whole.
func (a *adoption) survey(ctx context.Context) (basis, error) {
	end, err := a.copy.End()
	if err != nil || end == 0 {
		return basis{whole: true}, err
	}
	framed := false
	if !a.AsPreamble {
		if framed, err = a.holdsFrames(ctx, 0, end); err != nil {
			return basis{}, err
		}
	}
	if !framed {
		return a.preamble(ctx, end)
	}
	r, err := a.verify(ctx, "verifying what "+a.File.Path+" holds")
	return basis{end: r.Sound.End, turn: r.Sound.Turn, sum: r.Sound.Sum, whole: r.OK(), report: r}, err
}

// verify judges the copy from itself.
func (a *adoption) verify(ctx context.Context, what string) (verify.Report, error) {
	a.Tell(what, 0, 0)
	end, err := a.copy.End()
	if err != nil {
		return verify.Report{}, err
	}
	return verify.Reader(ctx, a.copy, end, verify.Options{Progress: func(done, total int64) { a.Tell(what, done, total) }})
}

// judge refuses a copy that has more wrong with it than its end, and a preamble that does
// not end a line.
func (a *adoption) judge(ctx context.Context) error {
	b := a.basis
	switch {
	case b.preamble:
		last := make([]byte, 1)
		if _, err := a.copy.ReadAt(last, b.end-1); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if last[0] != '\n' {
			return &writer.RefusedError{
				Why:  a.File.Path + " does not end with a newline",
				Next: "nothing was changed; end its last line (echo >> " + a.File.Path + "), then adopt it",
			}
		}
	case !b.whole:
		spare, err := a.spare(ctx)
		if err != nil {
			return err
		}
		if !spare {
			b.report.File = a.File.Path
			return &FaultsError{b.report}
		}
		a.Log.Warn("the file's end is no turn, and will be put aside")
	}
	return nil
}

// spare tells whether what stands behind the basis is no turn that was committed, so that
// it can be put aside: it has no header, but for one that it may begin with; and it is an
// unfinished line or turn and nothing else, unless all that head knows is before it.
func (a *adoption) spare(ctx context.Context) (bool, error) {
	b := a.basis
	if b.end == 0 {
		return false, nil
	}
	covered := (a.known.edition == first || a.known.edition == second) && a.known.head.Offset <= b.end && slices.Contains(b.report.Incarnations, a.known.head.Incarnation)
	if !covered && (len(b.report.Findings) > 1 || b.report.Findings[0].Kind != verify.Torn) {
		return false, nil
	}
	end, err := a.copy.End()
	if err != nil {
		return false, err
	}
	more, err := a.holdsFrames(ctx, b.end+1, end)
	return !more, err
}

// checkLoss refuses a file in which committed turns are missing, and a head by which that
// cannot be told: more likely than not it is the wrong file.
func (a *adoption) checkLoss(ctx context.Context) error {
	head := a.known.head
	switch {
	case a.known.edition == damaged:
		return &writer.RefusedError{
			Why:  "head cannot be read, so that nobody can tell whether turns are missing in " + a.File.Path,
			Next: "nothing was changed; --accept-loss goes on from what the file holds",
		}
	case a.known.edition != none && head.Turn > 0:
		has, err := a.reaches(ctx, head)
		if err != nil {
			return err
		}
		if !has {
			return a.lost(head.Turn, "ZooKeeper")
		}
	}
	if turn, offset, ok := a.receipt(); ok && turn > 0 && a.basis.end < offset {
		return a.lost(turn, "the fence")
	}
	return nil
}

// reaches tells whether the copy has what head says is committed.
func (a *adoption) reaches(ctx context.Context, head frame.Head) (bool, error) {
	b := a.basis
	switch {
	case b.preamble || b.end < head.Offset || !slices.Contains(b.report.Incarnations, head.Incarnation):
		return false, nil
	case b.end == head.Offset:
		return b.sum == head.Sum, nil
	}
	r, err := verify.Reader(ctx, a.copy, head.Offset, verify.Options{})
	return err == nil && r.Sound.End == head.Offset && r.Sound.Sum == head.Sum, err
}

func (a *adoption) lost(turn uint64, who string) error {
	return &writer.RefusedError{
		Why:  fmt.Sprintf("%s knows that turn %d was committed, and %s does not hold it", who, turn, a.File.Path),
		Next: "nothing was changed. If this is not the fleet's file, give the right path (--data) or another fleet (--fleet); if those turns are really lost, --accept-loss goes on without them",
	}
}

// holdsFrames tells whether a line of the copy that begins between two offsets is one of
// ours. A line that from is in the middle of does not count.
func (a *adoption) holdsFrames(ctx context.Context, from, to int64) (bool, error) {
	at := from
	for room := make([]byte, 1<<20); at < to; {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		n, err := a.copy.ReadAt(room[:min(int64(len(room)), to-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		view, last := room[:n], at+int64(n) >= to || n == 0
		ours, used := scanLines(view, last || n < frame.MaxLine)
		if ours || last {
			return ours, nil
		}
		at += int64(used)
	}
	return false, nil
}

// scanLines tells whether a line in view is one of ours. used is how far it looked: a line
// that may go on behind the view is left, if it may be one of ours.
func scanLines(view []byte, all bool) (ours bool, used int) {
	for used < len(view) {
		line, _, complete := bytes.Cut(view[used:], []byte("\n"))
		if !complete && !all && len(line) < frame.MaxLine {
			return false, max(used, 1)
		}
		_, notHeader := frame.ParseHeader(line)
		_, notBegin := frame.ParseIncarnation(line)
		if notHeader == nil || notBegin == nil {
			return true, used
		}
		used += len(line)
		if complete {
			used++
		}
	}
	return false, used
}

// preamble takes the whole copy as bytes that no frame covers.
func (a *adoption) preamble(ctx context.Context, end int64) (basis, error) {
	hash, room := sha256.New(), make([]byte, 1<<20)
	for at := int64(0); at < end; {
		if ctx.Err() != nil {
			return basis{}, context.Cause(ctx)
		}
		n, err := a.copy.ReadAt(room[:min(int64(len(room)), end-at)], at)
		if err != nil {
			return basis{}, err
		}
		hash.Write(room[:n])
		at += int64(n)
		a.Tell("reading "+a.File.Path, at, end)
	}
	return basis{end: end, sum: frame.SumOf([sha256.Size]byte(hash.Sum(nil))), whole: true, preamble: true}, nil
}
