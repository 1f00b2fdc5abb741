package fleet

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// doubt is a commit that was sent and not answered.
type doubt struct {
	hold    *filelock.Hold
	start   int64 // where its frame begins in the file
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
// Our turn's number there may be another agent's; the token is ours alone.
func (a *Agent) committed(data []byte, d *doubt) (bool, error) {
	head, err := frame.ParseHead(data)
	if err != nil {
		return false, err
	}
	if head.Incarnation != d.out.Head.Incarnation {
		return false, &writer.RefusedError{
			Why:  fmt.Sprintf("the file was adopted (incarnation %s) while the outcome of our turn %d was unknown", head.Incarnation, d.out.Head.Turn),
			Next: "look for its records in the file before writing them again",
		}
	}
	if head.Turn < d.out.Head.Turn {
		return false, nil
	}
	there, err := a.file.HeaderAt(d.start)
	return there.Token == d.out.Head.Token, err
}
