package volume

import (
	"context"
	"fmt"
	"time"
)

const nextFIFO = "agents run all the same; a process's death is then noticed when its session expires, and not before"

// fifo finds out whether the reader of a FIFO learns at once that the process which
// had it open for writing was killed.
func (c *checker) fifo(ctx context.Context, _ *Report) (Finding, error) {
	name := c.path("fifo")
	if err := c.disk.mkfifo(name); err != nil {
		if isFull(err) {
			return Finding{}, err
		}
		return warning(fmt.Sprintf("there are no FIFOs here: %v", err), nextFIFO), nil
	}
	reader, err := c.disk.listen(name)
	if err != nil {
		return warning(fmt.Sprintf("a FIFO cannot be opened: %v", err), nextFIFO), nil
	}
	defer reader.Close()
	all, stop, err := c.start(ctx, 1)
	if err != nil {
		return Finding{}, err
	}
	defer stop()
	if _, err := all[0].ask(ctx, request{Do: "attach", Name: name}); err != nil {
		if f, blamed := c.blame(ctx, err); blamed != nil || f.Result != Failed {
			return f, blamed
		}
		return warning(fmt.Sprintf("another process cannot open a FIFO that is read: %v", err), nextFIFO), nil
	}
	early, err := reader.HungUp(0)
	if err != nil || early {
		return warning(fmt.Sprintf("a FIFO's reader sees the end while a process has it open for writing (%v)", err), nextFIFO), nil
	}
	began := c.now()
	all[0].kill()
	return c.awaitHangUp(ctx, reader, began)
}

func (c *checker) awaitHangUp(ctx context.Context, reader listener, began time.Time) (Finding, error) {
	for {
		if ctx.Err() != nil {
			return Finding{}, context.Cause(ctx)
		}
		over, err := reader.HungUp(100 * time.Millisecond)
		took := c.now().Sub(began)
		switch {
		case err != nil:
			return warning(err.Error(), nextFIFO), nil
		case over && took <= tooSlow:
			return ok("its reader sees %s after a process was killed that it is gone", brief(took)), nil
		case over || took > patience:
			return warning(fmt.Sprintf("%s after a process was killed its FIFO's reader did not see it", brief(took)), nextFIFO), nil
		}
	}
}
