// Package verify reads a shared file from its beginning and judges whether it
// can be what a fleet that took turns has written.
//
// It stands apart: it uses the format's definition and nothing of the code that
// writes. Where the writer asks "may I append", the verifier asks "what do these
// bytes prove", and it believes only three witnesses: the chain of sums in the
// file, what the caller read from ZooKeeper (head, and the turns that are committed
// and not known to be on the disk), and the acknowledgement logs that the agents kept.
//
// # What it promises
//
// A file that the fleet wrote passes, whatever its records say: sums decide,
// never text. A damaged file is told with the kind of damage, the place and a
// sentence, and after a bad place the reading goes on at the next place that
// makes sense, so that one defect gives one finding and a second one is still
// found. Memory is constant: neither a record nor a payload is ever held whole.
//
// # Beside a fleet that goes on writing
//
// A turn is committed before it is written. So the caller reads head, then the turns'
// nodes, then the file, then head again. What the first head knows must be in the file,
// or in a node that leads up to that head: then it is noted, and no fault. What lies
// behind the last head is nobody's. A record that was acknowledged must be in the file.
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
	"time"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// DefaultFindings is how many findings a report keeps when nothing else is asked.
const DefaultFindings = 1000

// Options says what the file is to be judged against, besides itself.
type Options struct {
	// Head, when set, gives the head of the file, or nil when there is none. It is
	// called after the acknowledgement logs' sizes are taken and before the file is
	// opened: so all that is acknowledged is under head, and all that is under head is
	// in the file or has a node, even while a fleet goes on writing.
	Head func(context.Context) (*frame.Head, error)
	// Turns, when set, gives the turns that have a node, and the nodes that cannot be
	// believed. It is called after Head, if there is one, and before the file is opened.
	Turns func(context.Context, frame.Head) (turns []frame.Turn, doubts []error, err error)
	// Final, when set, gives head as it is after the file was read, no older than what
	// any agent knew then. It is called when there is something that needs it: bytes
	// behind head, or a fault.
	Final func(context.Context) (*frame.Head, error)
	// Known, when set, is a head that was seen earlier: ZooKeeper must not be behind it.
	Known *frame.Head
	// Open, when set, opens the file in OpenPlain's stead: for volumes where a plain read
	// is stale.
	Open func(path string) (Source, error)
	// Patience is for how long a file that is too short is opened again before it is
	// called so, on volumes where a size may be stale.
	Patience time.Duration
	// Acks names acknowledgement logs, or directories that hold nothing else.
	Acks []string
	// Progress, when set, is told now and then how many bytes are judged.
	Progress func(done, total int64)
	// MaxFindings is how many findings the report keeps; all are counted.
	MaxFindings int
}

// ErrMoved says that the fleet's file was begun or adopted while it was read.
var ErrMoved = errors.New("the fleet's file was begun or adopted while it was read; verify it again")

// Source is an open file.
type Source interface {
	io.ReaderAt
	End() (int64, error) // how long it is now
	Close() error
}

// File judges the file at path. What is wrong with the data is in the report; the
// error is for what keeps it from being read.
func File(ctx context.Context, path string, opt Options) (Report, error) {
	open := opt.Open
	if open == nil {
		open = OpenPlain
	}
	report, err := judge(ctx, opt, func() (Source, error) { return open(path) })
	report.File = path
	if err != nil {
		return report, fmt.Errorf("verify %s: %w", path, err)
	}
	return report, nil
}

// Reader judges size bytes of r like File.
func Reader(ctx context.Context, r io.ReaderAt, size int64, opt Options) (Report, error) {
	return judge(ctx, opt, func() (Source, error) { return sized{r, size}, nil })
}

// judge opens the logs, asks for head and the turns, and opens the file, in this order;
// see Options.
func judge(ctx context.Context, opt Options, open func() (Source, error)) (Report, error) {
	acks, err := openLedger(opt.Acks)
	if err != nil {
		return Report{}, err
	}
	defer acks.close()
	seen, err := look(ctx, opt)
	if err != nil {
		return Report{}, err
	}
	file, over, err := openUnder(ctx, seen, opt, open)
	if err != nil {
		return Report{}, err
	}
	defer file.Close()
	s := newScan(ctx, over, seen.Head, acks, opt)
	defer s.ahead.stop()
	if err := acks.start(s); err != nil {
		return s.finish(), err
	}
	if err := s.judge(ctx, opt); err != nil {
		return s.finish(), err
	}
	err = s.checkAcks()
	return s.finish(), err
}

// judge reads the file, and holds it to head.
func (s *scan) judge(ctx context.Context, opt Options) error {
	if err := s.readAll(); err != nil {
		return err
	}
	s.checkOrder()
	s.checkTurns()
	return s.checkHead(ctx, opt)
}

// look asks what ZooKeeper says of the file.
func look(ctx context.Context, opt Options) (seen Sight, err error) {
	if opt.Head == nil {
		return seen, nil
	}
	if seen.Head, err = opt.Head(ctx); err != nil {
		return seen, fmt.Errorf("read head: %w", err)
	}
	if seen.Head != nil && opt.Turns != nil {
		if seen.Turns, seen.Doubts, err = opt.Turns(ctx, *seen.Head); err != nil {
			return seen, fmt.Errorf("read the turns: %w", err)
		}
	}
	return seen, nil
}

// openUnder opens the file, again and again for a while when it is too short. A node that
// was gone when it was asked for may have been gone for this look alone.
func openUnder(ctx context.Context, seen Sight, opt Options, open func() (Source, error)) (Source, *overlay, error) {
	for begun, pause := time.Now(), 5*time.Millisecond; ; pause = min(2*pause, time.Second) {
		file, err := open()
		if err != nil {
			return nil, nil, err
		}
		size, err := file.End()
		var over *overlay
		if err == nil {
			over, err = lay(file, size, seen)
		}
		if err == nil && (seen.Head == nil || over.end >= seen.Head.Offset || time.Since(begun) >= opt.Patience) {
			return file, over, nil
		}
		err = errors.Join(err, file.Close())
		if err == nil {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		if err != nil {
			return nil, nil, err
		}
	}
}
