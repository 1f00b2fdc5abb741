package fleet

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// doubt is a commit that was sent and not answered.
type doubt struct {
	hold    *filelock.Hold
	out     writer.Appended
	records [][]byte
}

// settle finds out what became of a commit in doubt, and acknowledges it if it
// happened.
func (a *Agent) settle(ctx context.Context, queue *filelock.Queue) error {
	if a.doubt == nil {
		return nil
	}
	data, err := queue.Settle(ctx, a.doubt.hold)
	if err != nil {
		return err
	}
	d := a.doubt
	happened, err := a.committed(data, d)
	if err != nil {
		return err
	}
	a.doubt = nil
	if !happened {
		a.Log.Warn("fenced: our turn was not committed, its records are for another turn", zap.Uint64("turn", d.out.Head.Turn))
		return nil
	}
	a.Log.Info("settled: our turn was committed", zap.Uint64("turn", d.out.Head.Turn))
	return a.acknowledge(ctx, d.out, d.records)
}

// committed tells whether d's frame is in the part of the file that head covers.
// Our turn's number there may be another agent's, and after ZooKeeper went back in time
// even our token; the sum is ours alone. If head is of our turn's number, its own sum says
// whose: the file may have our frame in the place of the other's, then.
func (a *Agent) committed(data []byte, d *doubt) (bool, error) {
	head, err := parseHead(data)
	if err != nil {
		return false, err
	}
	if head.Incarnation != d.out.Head.Incarnation {
		return false, &writer.RefusedError{
			Why:  fmt.Sprintf("the file was adopted (incarnation %s) while the outcome of our turn %d was unknown", head.Incarnation, d.out.Head.Turn),
			Next: "look for its records in the file before writing them again",
		}
	}
	if head.Turn+1 < d.out.Head.Turn { // older than what our turn began with
		return false, &writer.RefusedError{
			Why:  fmt.Sprintf("ZooKeeper says that turn %d is the last, and we were in turn %d: it went back in time", head.Turn, d.out.Head.Turn),
			Next: nextAdopt,
		}
	}
	if head.Turn <= d.out.Head.Turn {
		return head.Sum == d.out.Head.Sum, nil
	}
	there, err := a.file.HeaderAt(d.out.Start)
	return there.Sum == d.out.Header.Sum, err
}
