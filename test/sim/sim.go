// Package sim runs a fleet in one thread, with the file system, the clock and
// ZooKeeper simulated, and breaks whatever can break. The code under test is the
// production code: fleet, filelock, writer and frame, unchanged.
//
// A schedule is one run, decided by a seed: who goes on at each step, and what fails.
// Agents run inside a testing/synctest bubble, where time stands still while anybody works.
// Every call to the volume, to ZooKeeper or to the source of records is a step; there a
// goroutine may be made to wait while others go on, and its agent be killed, be paused, or
// have its request fail. An agent is two or three goroutines (thread.go); of all of them one
// runs at a time, so that a seed always gives the same schedule.
//
// Half of the schedules have a volume of one kernel: one page cache, made durable by syncs,
// which may fail and leave clean pages that never reach the disk. The others have two or
// three hosts and a server, on which a write is seen by all before it is durable, and may
// arrive after its process was killed; the server can lose its power while agents go on.
//
// # What it can show
//
// Every promise of docs/design.md but speed, checked at each step against a truth that no
// agent knows: see check.go. Whatever is committed is on disk or has its node in turns/; a
// reader sees nothing else, without gaps; what is acknowledged is committed and on disk;
// nobody refuses without a reason; and once nothing breaks any more, all come to their end
// and turns/ is empty. What a schedule decides is kept as a tape of small numbers (tape.go),
// of which 0 is always the uneventful choice; a schedule that fails is made shorter by
// making more of them 0, and told as a story.
//
// # What it cannot
//
// The session's own work (the client library, its connections and its deadline) is
// simulated at its interface; package session has tests of its own, on real servers.
// ZooKeeper is two servers that see one history, of which one lags behind. A disk loses
// and mixes what was not synced, sector by sector, but keeps what was. Not simulated: the
// acknowledgement log and what it leaves pending, adopt, a fleet that is 8 MiB behind.
package sim

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"
)

// names are what random names are made of.
type names struct {
	mu     sync.Mutex
	random *rand.ChaCha8
}

func (n *names) Read(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.random == nil {
		n.random = rand.NewChaCha8([32]byte{})
	}
	return n.random.Read(b)
}

// Outcome is what became of one schedule.
type Outcome struct {
	Seed   uint64
	Err    error // the promise that was broken, nil when none was
	Counts Counts
	tape   []uint16
}

// Counts says what happened in a schedule, or in many.
type Counts struct {
	Schedules int
	Idle      int // schedules that do not count: no fault fired, or hardly a turn
	Steps     int
	Turns     int // committed
	Acked     int
	Restarts  int
	Faults    [faultKinds]int
}

// Add sums up.
func (c *Counts) Add(d Counts) {
	c.Schedules += d.Schedules
	c.Idle += d.Idle
	c.Steps += d.Steps
	c.Turns += d.Turns
	c.Acked += d.Acked
	c.Restarts += d.Restarts
	for i, n := range d.Faults {
		c.Faults[i] += n
	}
}

// Run runs the schedule of a seed.
func Run(t *testing.T, seed uint64) Outcome {
	return play(t, newTape(seed), seed, nil)
}

// Explain runs the schedule again, makes it shorter while it still breaks the same
// promise, and tells its story.
func Explain(t *testing.T, failed Outcome) string {
	short := shrink(t, failed)
	told := &story{}
	out := play(t, replay(short), failed.Seed, told)
	return fmt.Sprintf("seed %d: %v\nshortened to %d steps:\n%s", failed.Seed, out.Err, out.Counts.Steps, told)
}

func play(t *testing.T, decisions *tape, seed uint64, told *story) Outcome {
	w := newWorld(decisions, told)
	uuid.SetRand(&w.names) // so that names are the same each time, too
	synctest.Test(t, func(*testing.T) { w.play() })
	if w.broken == nil {
		w.judge()
	}
	out := Outcome{Seed: seed, Err: w.broken, Counts: w.counts, tape: decisions.made}
	out.Counts.Schedules = 1
	if out.Counts.fired() == 0 || out.Counts.Turns < 2 {
		out.Counts.Idle = 1
	}
	return out
}

// fired counts the faults that can do harm.
func (c Counts) fired() (n int) {
	for kind, f := range c.Faults {
		if Fault(kind) != foreign && Fault(kind) != clock {
			n += f
		}
	}
	return n
}
