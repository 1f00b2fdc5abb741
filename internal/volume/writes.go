package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

const nextWrites = "turns would be damaged: take another volume, or another mode (--volume), or other mount options"

const (
	// inRound is how many ranges the processes write at once: some dozens of pages.
	inRound = 256
	// staleFor is how long a look that is short is repeated in mode sync, whose reads
	// come from caches.
	staleFor = 10 * time.Second
)

// writes has two processes write neighbouring ranges of the same pages by position, in
// turns and at once, and reads whether each range is kept whole and seen at once.
func (c *checker) writes(ctx context.Context, _ *Report) (Finding, error) {
	all, stop, err := c.start(ctx, processes)
	if err != nil {
		return Finding{}, err
	}
	defer stop()
	f, turns, late, err := c.inTurns(ctx, all)
	rounds := 0
	if err == nil && f.Result == "" {
		f, rounds, err = c.atOnce(ctx, all)
	}
	switch {
	case c.mode == Direct && errors.Is(err, syscall.EINVAL):
		return failed(fmt.Sprintf("O_DIRECT does not take writes and reads of any place and length here: %v", err),
			"try it as sync (--volume sync); NFS, SMB and CephFS take them"), nil
	case err != nil || f.Result != "":
		return f, err
	case late > 0:
		return warning(fmt.Sprintf("all ranges were whole, but %s passed before a process saw what another had written", brief(late)),
			"agents look again for 10 s, so turns are slower"), nil
	}
	return ok("%d processes wrote %d neighbouring ranges in turns and %d at once, by position (%s): all whole, each seen at once",
		processes, turns, rounds*inRound, c.mode), nil
}

// inTurns has the processes write range after range, each after the other has seen the
// one before. late is the longest that one was not seen, in mode sync.
func (c *checker) inTurns(ctx context.Context, all []process) (f Finding, n int, late time.Duration, err error) {
	data, err := c.create("turns")
	if err != nil {
		return f, 0, 0, err
	}
	defer data.Close()
	for end := c.now().Add(c.For / 4); n < 2*processes || n < inRound && c.now().Before(end); n++ {
		r := request{Do: "write", Name: c.path("turns"), Flags: c.mode.Flags(), Range: n, Count: 1}
		if _, err := all[n%processes].ask(ctx, r); err != nil {
			return f, n, late, err
		}
		r.Do = "read"
		took, seen, err := c.awaitRange(ctx, all[(n+1)%processes], r)
		if err != nil {
			return f, n, late, err
		}
		if !seen {
			return failed("a process did not see what another had just written: reads are stale, or the write was not whole", nextWrites), n, late, nil
		}
		late = max(late, took)
	}
	f, err = c.whole(data, n, "in turns")
	return f, n, late, err
}

// awaitRange asks whether a process sees a range, in mode sync for a while; took is 0
// when it saw it at once.
func (c *checker) awaitRange(ctx context.Context, p process, r request) (took time.Duration, seen bool, err error) {
	for began := c.now(); ; {
		a, err := p.ask(ctx, r)
		if err != nil || a.Same {
			return took, a.Same, err
		}
		if took = c.now().Sub(began); c.mode != Sync || took > staleFor {
			return took, false, nil
		}
		select {
		case <-time.After(shortest):
		case <-ctx.Done():
			return took, false, context.Cause(ctx)
		}
	}
}

const shortest = 10 * time.Millisecond

// atOnce has the processes write every other range, in a new file each round.
func (c *checker) atOnce(ctx context.Context, all []process) (f Finding, rounds int, err error) {
	for end := c.now().Add(c.For / 4); rounds == 0 || c.now().Before(end); rounds++ {
		if f, err = c.round(ctx, all, fmt.Sprintf("once-%d", rounds)); f.Result != "" || err != nil {
			break
		}
	}
	return f, rounds, err
}

func (c *checker) round(ctx context.Context, all []process, name string) (Finding, error) {
	data, err := c.create(name)
	if err != nil {
		return Finding{}, err
	}
	defer data.Close()
	_, err = askAll(ctx, all, request{
		Do: "write", Name: c.path(name), Flags: c.mode.Flags(),
		Step: processes, Count: inRound / processes, At: time.Now().Add(2 * time.Millisecond),
	})
	if err != nil {
		return Finding{}, err
	}
	f, err := c.whole(data, inRound, "at once")
	return f, errors.Join(err, os.Remove(c.path(name)))
}

// whole reads the first n ranges through a descriptor of ours.
func (c *checker) whole(data file, n int, how string) (Finding, error) {
	damaged := 0
	for i := range n {
		same, err := holdsRange(data, i)
		if err != nil {
			return Finding{}, err
		}
		if !same {
			damaged++
		}
	}
	if damaged > 0 {
		return failed(fmt.Sprintf("%d processes wrote neighbouring ranges %s, and %d of %d are damaged: a write touches more than its range, or is lost",
			processes, how, damaged, n), nextWrites), nil
	}
	return Finding{}, nil
}
