package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/follow"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/verify"
)

// follower judges one growing file again and again, each time only what is new.
type follower struct {
	path     string
	open     func(path string) (verify.Source, error)
	log      *zap.Logger
	progress func(done, total int64)
	final    func(context.Context) (*frame.Head, error)

	from  verify.Checkpoint
	info  os.FileInfo // the file that from is of
	known *frame.Head // the last that the file agreed with: head may not fall behind it
}

// forget makes the next judgement begin at the file's beginning.
func (f *follower) forget() { f.from = verify.Checkpoint{} }

// judge judges the file up to head. The error is for what keeps it from being read.
func (f *follower) judge(ctx context.Context, s follow.Sight) (verify.Report, error) {
	file, err := f.open(f.path)
	if errors.Is(err, os.ErrNotExist) && len(s.Turns) > 0 && s.Turns[0].Number == 0 {
		return f.judgeAll(ctx, verify.Options{ // it is not made yet
			Head:  func(context.Context) (*frame.Head, error) { return s.Head, nil },
			Turns: func(context.Context, frame.Head) ([]frame.Turn, []error, error) { return s.Turns, s.Doubts, nil },
			Open:  func(string) (verify.Source, error) { return nothing{}, nil },
		})
	}
	if err != nil {
		return verify.Report{}, err
	}
	defer file.Close()
	info, err := os.Stat(f.path)
	if err != nil {
		return verify.Report{}, err
	}
	if f.info != nil && !os.SameFile(f.info, info) {
		f.log.Warn("another file lies where the data file was: reading it from its beginning", zap.String("file", f.path))
		f.forget()
	}
	f.info = info
	size, err := file.End()
	if err != nil {
		return verify.Report{}, err
	}
	seen := verify.Sight{Head: s.Head, Turns: s.Turns, Doubts: s.Doubts}
	opt := verify.Options{Known: f.known, Final: f.final, Progress: f.progress}
	report, next, err := verify.Resume(ctx, file, size, f.from, seen, opt)
	if errors.Is(err, verify.ErrStale) {
		f.log.Warn("the file or head is not what was judged before: reading from the beginning", zap.Error(err))
		report, next, err = verify.Resume(ctx, file, size, verify.Checkpoint{}, seen, opt)
	}
	if err != nil {
		return report, fmt.Errorf("audit %s: %w", f.path, err)
	}
	f.from = next
	if report.OK() {
		f.known = s.Head
	}
	return report, nil
}

// judgeWithoutHead judges the file of a fleet that has no head: fine if no turn was ever
// committed.
func (f *follower) judgeWithoutHead(ctx context.Context) (verify.Report, error) {
	report, err := f.judgeAll(ctx, verify.Options{
		Head: func(context.Context) (*frame.Head, error) { return nil, nil }, Final: f.final, Open: f.open,
	})
	if errors.Is(err, os.ErrNotExist) {
		return verify.Report{}, nil
	}
	return report, err
}

// judgeAll reads the whole file.
func (f *follower) judgeAll(ctx context.Context, opt verify.Options) (verify.Report, error) {
	f.forget()
	return verify.File(ctx, f.path, opt)
}

// nothing is a file that holds nothing.
type nothing struct{}

func (nothing) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
func (nothing) End() (int64, error)               { return 0, nil }
func (nothing) Close() error                      { return nil }
