package fleet_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// follower is the real `tail -n +1 -F` beside the fleet.
type follower struct {
	t    testing.TB
	cmd  *exec.Cmd
	mu   sync.Mutex
	seen bytes.Buffer
	said bytes.Buffer
}

// lockedWriter is a buffer that may be read meanwhile.
type lockedWriter struct {
	mu  *sync.Mutex
	buf *bytes.Buffer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(b)
}

func (s *site) follow() *follower {
	s.t.Helper()
	f := &follower{t: s.t, cmd: exec.Command("tail", "-n", "+1", "-s", "0.05", "-F", s.path)}
	f.cmd.Env = append(os.Environ(), "LC_ALL=C")
	f.cmd.Stdout, f.cmd.Stderr = lockedWriter{&f.mu, &f.seen}, lockedWriter{&f.mu, &f.said}
	if err := f.cmd.Start(); err != nil {
		s.t.Fatalf("tail: %v", err)
	}
	s.t.Cleanup(func() { _ = f.cmd.Process.Kill(); _ = f.cmd.Wait() })
	return f
}

func (f *follower) printed() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return bytes.Clone(f.seen.Bytes())
}

func (f *follower) complains() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.said.String()
}

// crowd are agents of which one is killed after the other, and started again at once.
type crowd struct {
	n      *nursery
	rand   *rand.Rand
	agents []*child
	at     []string // their failpoints
	since  []time.Time
	deaths chan int
	count  map[string]int // of the killed, by failpoint
	begun  int
}

// start starts an agent in a slot. Every second one is for others to kill.
func (c *crowd) start(slot int) {
	o := c.n.orders("")
	o.Timeout, o.Die, o.At = 2*time.Second, random, 1+c.rand.IntN(6)
	if c.begun++; c.begun%2 == 0 {
		o.Die = steps[2+c.rand.IntN(len(steps)-2)]
	}
	if c.begun <= 2 {
		o.Die, o.At = steps[c.begun-1], 1 // of a file that begins
	}
	o.Acks = filepath.Join(c.n.dir, fmt.Sprintf("%d.acks", c.begun))
	child := c.n.childWith(o)
	c.agents[slot], c.at[slot], c.since[slot] = child, o.Die, time.Now()
	go func() { // ends with the child
		for range child.says {
		}
		c.deaths <- slot
	}()
}

// died takes note of a death, and starts another.
func (c *crowd) died(slot int) {
	c.n.t.Helper()
	_ = c.agents[slot].cmd.Wait()
	if ws, _ := c.agents[slot].cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() {
		log, _ := os.ReadFile(filepath.Join(c.n.dir, ".log"))
		c.n.t.Fatalf("an agent ended by itself: %v\n%s", c.agents[slot].cmd.ProcessState, log)
	}
	c.count[c.at[slot]]++
	c.start(slot)
}

// killOne kills one of those that are for others to kill, or one that does not get to where
// it should die.
func (c *crowd) killOne() {
	slot := c.rand.IntN(len(c.agents))
	if late := time.Since(c.since[slot]) > 400*time.Millisecond; c.at[slot] == random || late {
		c.at[slot] = random
		_ = c.agents[slot].cmd.Process.Kill()
	}
}

// A follower beside a hundred kills, at random moments and at every step, prints each byte
// once, prints nothing that is not committed, and never sees the file become shorter (rows 1,
// 3 and 22).
func TestFollow_tailBesideAHundredKills(t *testing.T) {
	t.Parallel()
	kills := 100
	if testing.Short() {
		kills = 25
	}
	n := newNursery(t)
	tail := n.follow()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := &crowd{n: n, rand: rand.New(rand.NewPCG(seed, 0)), agents: make([]*child, 3), at: make([]string, 3), since: make([]time.Time, 3), deaths: make(chan int), count: map[string]int{}}
	for slot := range c.agents {
		c.start(slot)
	}
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	enough := time.After(2 * time.Minute)
	for done, turns := 0, 0; done < kills || turns < 2*kills; {
		select {
		case slot := <-c.deaths:
			c.died(slot)
			done++
		case <-tick.C:
			text, _ := os.ReadFile(n.path) // there is none at first
			turns = bytes.Count(text, []byte("\n#turn "))
			if c.rand.IntN(3) == 0 && turns >= 2*done { // on a busy machine they get somewhere, too
				c.killOne()
			}
		case <-enough:
			t.Fatalf("only %d were killed beside %d turns: %v", done, turns, c.count)
		}
	}
	for slot := range c.agents {
		_ = c.agents[slot].cmd.Process.Kill()
		<-c.deaths
	}
	n.goesOn("last")
	n.settled()
	acks, err := filepath.Glob(filepath.Join(n.dir, "*.acks"))
	if err != nil {
		t.Fatal(err)
	}
	report := n.verify(acks...)
	n.wantFloods()
	t.Logf("killed: %v; %d turns, %d of %d records acknowledged", c.count, report.Turns, report.Acknowledged, report.Records)
	if report.Turns < int64(2*kills) {
		t.Errorf("only %d turns beside %d kills", report.Turns, kills)
	}
	file := n.read()
	n.until("the follower has printed it all", func() bool { return len(tail.printed()) >= len(file) })
	if !bytes.Equal(tail.printed(), file) {
		t.Errorf("the follower printed %d bytes, and not what the file holds: %d bytes", len(tail.printed()), len(file))
	}
	if said := tail.complains(); strings.Contains(said, "truncated") || strings.Contains(said, "replaced") {
		t.Errorf("the follower says: %s", said)
	}
}
