package volume

import (
	"context"
	"fmt"
	"os"
	"time"
)

// leastSync is the least that a confirmation by a disk costs: a request to the device
// and its interrupt, twice when the file has grown. The fastest disks with a protected
// cache need some 30 µs for it.
const leastSync = 20 * time.Microsecond

const mostWrites, leastWrites = 4000, 5

// fdatasync measures what it costs to have a write confirmed, in the volume's mode, and
// doubts what costs next to nothing.
func (c *checker) fdatasync(ctx context.Context, r *Report) (Finding, error) {
	plain, synced, err := c.timeWrites(ctx)
	if err != nil {
		return Finding{}, err
	}
	r.Sync = &Timing{Writes: len(plain), Plain: percentile(plain), Synced: percentile(synced)}
	return judgeSync(*r.Sync, r.FileSystem), nil
}

// timeWrites writes to two files by turns: to one through the page cache, which waits
// for nothing, and to the other as an agent does.
func (c *checker) timeWrites(ctx context.Context) (plain, synced []time.Duration, err error) {
	cached, err := c.disk.open(c.path("cached"), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, nil, err
	}
	defer cached.Close()
	f, err := c.create("synced")
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	block := make([]byte, 4096)
	most := int(min(mostWrites, c.space/uint64(2*len(block))))
	for end := c.now().Add(c.For / 3); len(plain) < leastWrites || len(plain) < most && c.now().Before(end); {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		began, at := c.now(), int64(len(plain)*len(block))
		if _, err := cached.WriteAt(block, at); err != nil {
			return nil, nil, fmt.Errorf("write: %w", err)
		}
		plain = append(plain, c.now().Sub(began))
		began = c.now()
		if err := writeSynced(f, block, at); err != nil {
			return nil, nil, err
		}
		synced = append(synced, c.now().Sub(began))
	}
	return plain, synced, nil
}

func writeSynced(f file, block []byte, at int64) error {
	if _, err := f.WriteAt(block, at); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := f.Datasync(); err != nil {
		return fmt.Errorf("fdatasync: %w", err)
	}
	return nil
}

// inMemory are the file systems that have no disk.
var inMemory = map[string]bool{"tmpfs": true, "ramfs": true}

func judgeSync(t Timing, fileSystem string) Finding {
	µs := func(f float64) string { return brief(time.Duration(f * float64(time.Microsecond))) }
	measured := fmt.Sprintf("write %s, with fdatasync %s (p99 %s)", µs(t.Plain.Median), µs(t.Synced.Median), µs(t.Synced.P99))
	switch {
	case inMemory[fileSystem]:
		return warning(fmt.Sprintf("%s is memory: nothing in it survives a power loss or a restart of the machine", fileSystem),
			"fine for tests; put records that must last on a disk")
	case t.Synced.Median-t.Plain.Median < float64(leastSync/time.Microsecond):
		return warning(measured+": no disk confirms that fast, so something on the way only says that it did",
			"acknowledged records may be gone after a power loss: look for a volatile cache, an overlay mounted volatile, a virtual disk whose cache is unsafe, eatmydata")
	}
	return ok("%s: at best %.0f turns a second", measured, 1e6/t.Synced.Median)
}
