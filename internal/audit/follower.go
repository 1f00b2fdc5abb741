package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/verify"
)

// follower judges one growing file again and again, each time only what is new.
type follower struct {
	path     string
	log      *zap.Logger
	progress func(done, total int64)

	from verify.Checkpoint
	info os.FileInfo // the file that from is of

	// What was found committed, and in which incarnation: head may not fall behind it.
	known       verify.Receipt
	incarnation uuid.UUID
}

// forget makes the next judgement begin at the file's beginning.
func (f *follower) forget() { f.from = verify.Checkpoint{} }

// judge judges the file up to head. The error is for what keeps it from being read.
func (f *follower) judge(ctx context.Context, s sight) (verify.Report, error) {
	file, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would make us wait
	if err != nil {
		return verify.Report{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file; give the data file itself", f.path)
	}
	if err != nil {
		return verify.Report{}, err
	}
	if f.info != nil && !os.SameFile(f.info, info) {
		f.log.Warn("another file lies where the data file was: reading it from its beginning", zap.String("file", f.path))
		f.forget()
	}
	f.info = info
	opt := verify.Options{Receipt: f.receipt(s), Progress: f.progress}
	report, next, err := verify.Resume(ctx, file, info.Size(), f.from, *s.head, opt)
	if errors.Is(err, verify.ErrStale) {
		f.log.Warn("the file or head is not what was judged before: reading from the beginning", zap.Error(err))
		report, next, err = verify.Resume(ctx, file, info.Size(), verify.Checkpoint{}, *s.head, opt)
	}
	if err != nil {
		return report, fmt.Errorf("audit %s: %w", f.path, err)
	}
	f.from = next
	if report.OK() {
		f.known, f.incarnation = next.Receipt(), s.head.Incarnation
	}
	return report, nil
}

// receipt is the most that is known to be committed: by the volume, or by what was judged.
func (f *follower) receipt(s sight) *verify.Receipt {
	if s.head.Incarnation == f.incarnation && (s.receipt == nil || s.receipt.Turn < f.known.Turn) {
		return &f.known
	}
	return s.receipt
}
