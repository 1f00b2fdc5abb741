// Package verify reads a shared file from its beginning and judges whether it
// can be what a fleet that took turns has written.
//
// It stands apart: it uses the format's definition and nothing of the code that
// writes. Where the writer asks "may I append", the verifier asks "what do these
// bytes prove", and it believes only three witnesses: the chain of sums in the
// file, the head that the caller read from ZooKeeper, and the acknowledgement
// logs that the agents kept.
//
// # What it promises
//
// A file that the fleet wrote passes, whatever its records say: sums decide,
// never text. A damaged file is told with the kind of damage, the place and a
// sentence, and after a bad place the reading goes on at the next place that
// makes sense, so that one defect gives one finding and a second one is still
// found. Memory is constant: neither a record nor a payload is ever held whole.
//
// # What it does not
//
// The sums are checksums, not signatures: whoever can write the file can forge
// it. A file that was cut between two turns is a valid shorter file; only head or
// an acknowledgement log shows the loss. The first turn after a gap cannot be
// checked against its sum, because the sum before it is gone with the gap.
//
// # How it decides
//
// The file is read once, a frame at a time, each checked against the link before
// it. Only where that fails it looks closer: it reads the bytes around the place
// again and tries the explanations from the most exact to the least (if this
// field said that instead, would the sum fit?). Looking closer has a budget, so
// a file of rubbish is still read in linear time, only told less precisely.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// DefaultFindings is how many findings a report keeps when nothing else is asked.
const DefaultFindings = 1000

// Options says what the file is to be judged against, besides itself.
type Options struct {
	// Head, when set, gives the head of the file, or nil when there is none. It is
	// called after the acknowledgement logs' sizes are taken and before the file's
	// size is: so everything acknowledged is under head and everything under head
	// is in the file, even while a fleet goes on writing.
	Head func(context.Context) (*frame.Head, error)
	// Receipt, when set, is the last turn that the volume itself knows to be committed,
	// read before Head is called.
	Receipt *Receipt
	// Acks names acknowledgement logs, or directories that hold nothing else.
	Acks []string
	// Progress, when set, is told now and then how many bytes are judged.
	Progress func(done, total int64)
	// MaxFindings is how many findings the report keeps; all are counted.
	MaxFindings int
}

// Receipt says that a turn was committed, and where it ends.
type Receipt struct {
	Turn   uint64
	Offset int64
}

// File judges the file at path. What is wrong with the data is in the report; the
// error is for what keeps it from being read.
func File(ctx context.Context, path string, opt Options) (Report, error) {
	var f *os.File
	defer func() { _ = f.Close() }() // only read; nil when it was never opened
	report, err := judge(ctx, opt, func() (io.ReaderAt, int64, error) {
		var err error
		if f, err = os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0); err != nil { // a FIFO would make us wait
			return nil, 0, err
		}
		info, err := f.Stat()
		if err == nil && !info.Mode().IsRegular() {
			err = errors.New("it is not a regular file; give the data file itself")
		}
		if err != nil {
			return nil, 0, err
		}
		return f, info.Size(), nil
	})
	report.File = path
	if err != nil {
		return report, fmt.Errorf("verify %s: %w", path, err)
	}
	return report, nil
}

// Reader judges size bytes of r like File.
func Reader(ctx context.Context, r io.ReaderAt, size int64, opt Options) (Report, error) {
	return judge(ctx, opt, func() (io.ReaderAt, int64, error) { return r, size, nil })
}

// judge opens the logs, asks for head and opens the file, in this order; see
// Options.Head.
func judge(ctx context.Context, opt Options, open func() (io.ReaderAt, int64, error)) (Report, error) {
	acks, err := openLedger(opt.Acks)
	if err != nil {
		return Report{}, err
	}
	defer acks.close()
	head, err := askHead(ctx, opt)
	if err != nil {
		return Report{}, err
	}
	r, size, err := open()
	if err != nil {
		return Report{}, err
	}
	s := newScan(ctx, r, size, head, acks, opt)
	defer s.ahead.stop()
	if err := acks.start(s); err != nil {
		return s.finish(), err
	}
	if err := s.run(); err != nil {
		return s.finish(), err
	}
	s.checkOrder()
	s.checkReceipt(opt.Receipt)
	s.checkHead(opt.Head != nil)
	err = s.checkAcks()
	return s.finish(), err
}

func askHead(ctx context.Context, opt Options) (*frame.Head, error) {
	if opt.Head == nil {
		return nil, nil
	}
	head, err := opt.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("read head: %w", err)
	}
	return head, nil
}
