package volume

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

const nextVolume = "the fence rests on it: put data.file on a local file system (ext4, xfs, btrfs, tmpfs, overlay, zfs) or a Docker named volume"

// flock finds out whether a flock keeps other processes out, until its holder gives it
// up or dies, and whether who gets it sees what the one before has written.
func (c *checker) flock(ctx context.Context, _ *Report) (Finding, error) {
	all, stop, err := c.start(ctx, processes)
	if err != nil {
		return Finding{}, err
	}
	defer stop()
	name := c.path("fence")
	if err := c.writeNumber(name); err != nil {
		return Finding{}, err
	}
	if f, err := c.handOver(ctx, name, all[0], all[1]); f.Result == Failed || err != nil {
		return f, err
	}
	released, err := c.killHolder(ctx, name, all[1], all[0])
	if err != nil {
		return Finding{}, err
	}
	if released > patience {
		return failed(fmt.Sprintf("a flock was still taken %v after its holder was killed", patience), nextVolume), nil
	}
	total, f, err := c.counted(ctx, name, slices.Delete(slices.Clone(all), 1, 2))
	if f.Result == Failed || err != nil {
		return f, err
	}
	if released > tooSlow {
		return warning(fmt.Sprintf("a flock was free only %s after its holder was killed", brief(released)),
			"the fleet stands still that long when an agent dies inside the fence"), nil
	}
	return ok("kept other processes out; free %s after its holder was killed; %d turns of %d processes, each saw what the one before wrote",
		brief(released), total, processes-1), nil
}

func (c *checker) writeNumber(name string) error {
	f, err := c.fs.Open(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(make([]byte, 8), 0)
	return err
}

// handOver has a take the flock, b find it taken, a give it up, and b take it.
func (c *checker) handOver(ctx context.Context, name string, a, b process) (Finding, error) {
	for i, step := range []struct {
		who  process
		do   string
		busy bool
	}{{a, "lock", false}, {b, "lock", true}, {a, "unlock", false}, {b, "lock", false}} {
		got, err := step.who.ask(ctx, request{Do: step.do, Name: name})
		switch {
		case err != nil:
			return Finding{}, err
		case step.busy && !got.Busy:
			return failed("two processes had the same flock at once: it keeps nobody out", nextVolume), nil
		case !step.busy && got.Busy && i == 0:
			return failed("a new file's flock is taken before anybody took it", nextVolume), nil
		case !step.busy && got.Busy:
			return failed("a flock is still taken though its holder gave it up", nextVolume), nil
		}
	}
	return Finding{}, nil
}

// killHolder kills the process that has the flock and tells how long it takes until
// another gets it; longer than patience when it does not.
func (c *checker) killHolder(ctx context.Context, name string, holder, next process) (time.Duration, error) {
	began := c.now()
	holder.kill()
	for pause := shortest; ; pause = min(2*pause, 10*time.Millisecond) {
		got, err := next.ask(ctx, request{Do: "lock", Name: name})
		took := c.now().Sub(began)
		if err == nil && !got.Busy {
			_, err = next.ask(ctx, request{Do: "unlock", Name: name})
			return min(took, patience), err
		}
		if err != nil || took > patience {
			return took, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return took, context.Cause(ctx)
		}
	}
}

// counted has several processes add to one number under the flock, and holds the sum
// to what they say.
func (c *checker) counted(ctx context.Context, name string, all []process) (total int, f Finding, err error) {
	answers, err := askAll(ctx, all, request{Do: "count", Name: name, For: c.For / 4})
	if err != nil {
		return 0, f, err
	}
	for _, a := range answers {
		total += a.Done
	}
	h, err := c.fs.Open(name, os.O_RDWR)
	if err != nil {
		return 0, f, err
	}
	defer h.Close()
	there, err := number(h)
	switch {
	case err != nil:
		return 0, f, err
	case there != uint64(total):
		return total, failed(fmt.Sprintf("%d processes added one %d times under the flock, and the sum is %d: it let two in at once, or showed one what had changed since",
			len(all), total, there), nextVolume), nil
	}
	return total, f, nil
}
