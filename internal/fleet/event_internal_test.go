package fleet

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/session"
)

// There is always something to write in a busy fleet, and yet leftovers must be looked for.
func TestEvent_aBusyScribeSweepsToo(t *testing.T) {
	s := newScribe(&Agent{})
	tick := make(chan time.Time, 1)
	tick <- time.Now()
	signal(s.wake)
	if _, what := s.event(t.Context(), nil, tick); what != ticked {
		t.Errorf("it gives %d before the tick", what)
	}
	if _, what := s.event(t.Context(), nil, tick); what != woken {
		t.Errorf("it gives %d after the tick", what)
	}
}

// emptyZooKeeper is a session with a ZooKeeper that has no node.
type emptyZooKeeper struct{ wellSession }

func (emptyZooKeeper) Multi(context.Context, ...any) ([]zk.MultiResponse, error) {
	return nil, zk.ErrNoNode
}
func (emptyZooKeeper) Get(context.Context, string) (session.Node, error) {
	return session.Node{}, zk.ErrNoNode
}
func (emptyZooKeeper) Children(context.Context, string) ([]string, error) { return nil, zk.ErrNoNode }

// badDisk counts how often it was asked in vain.
type badDisk struct {
	writer.OS
	asked int
}

func (d *badDisk) Lstat(string) (writer.Info, error) {
	d.asked++
	return writer.Info{}, unix.EIO
}

// A volume that fails is tried again with pauses that grow to 5 s: in a minute 8 times until
// then, and 10 times after that. That it is time for a sweep cuts no pause short.
func TestWork_triesAVolumeThatFailsWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &badDisk{}
		a := New(Options{Jitter: func(time.Duration) time.Duration { return 0 }, File: &writer.File{Options: writer.Options{Path: "data.txt", FS: disk}}})
		s := a.scribe
		s.session, s.in, s.trouble = emptyZooKeeper{}, true, true
		stop := s.begin(func(err error) { t.Error(err) })
		signal(s.wake)
		time.Sleep(time.Minute)
		stop()
		if disk.asked < 15 || disk.asked > 20 {
			t.Errorf("it was asked %d times", disk.asked)
		}
	})
}

// crowd is a session with a fleet of so many agents, and counts how often turns/ is listed.
type crowd struct {
	emptyZooKeeper
	agents  int32
	counted int
	listed  int
}

func (c *crowd) Get(context.Context, string) (session.Node, error) {
	c.counted++
	return session.Node{Stat: &zk.Stat{NumChildren: c.agents}}, nil
}
func (c *crowd) Children(context.Context, string) ([]string, error) {
	c.listed++
	return nil, nil
}

// With 1,000 agents that all list turns/ every 1.5 s ZooKeeper has hardly time for turns.
func TestSettleLeftovers_eightAgentsOfALargeFleetLook(t *testing.T) {
	for _, agents := range []int32{1, 8, 9, 1000} {
		picks := time.Duration(-1) // each number once, as chance does on average
		a := New(Options{File: &writer.File{}, Jitter: func(most time.Duration) time.Duration {
			picks++
			return picks % most
		}})
		c := &crowd{agents: agents}
		a.scribe.session = c
		for range agents {
			if err := a.scribe.settleLeftovers(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if want := int(min(agents, sweepers)); c.listed != want {
			t.Errorf("of %d agents %d look, want %d", agents, c.listed, want)
		}
		if want := (int(agents) + recount - 1) / recount; c.counted != want {
			t.Errorf("%d agents were counted %d times, want %d", agents, c.counted, want)
		}
	}
}

// dropping is a session that notes what is deleted.
type dropping struct {
	emptyZooKeeper
	deleted int
}

func (d *dropping) Multi(_ context.Context, ops ...any) ([]zk.MultiResponse, error) {
	d.deleted += len(ops)
	return make([]zk.MultiResponse, len(ops)), nil
}

// While we wait for our turn, small nodes go with its commit: in a long line that is for
// seconds, and a transaction for each turn's node alone would be one more for each turn.
func TestTidy_whoWaitsForItsTurnKeepsSmallNodesForItsCommit(t *testing.T) {
	for what, c := range map[string]struct {
		inLine bool
		bytes  int
		after  time.Duration
	}{
		"it has no place":              {false, 100, keep},
		"it waits":                     {true, small, keepInLine},
		"it waits, and much is kept":   {true, small + 1, keep},
		"it has no place, and is long": {false, small + 1, keep},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScribe(&Agent{})
				d := &dropping{}
				s.session = d
				s.lineUp(c.inLine)
				s.unsynced = []frame.Turn{{Number: 1, Bytes: make([]byte, c.bytes)}}
				s.durable(1)
				time.Sleep(c.after)
				if err := s.tidy(t.Context()); err != nil || d.deleted != 0 {
					t.Errorf("after %v: %d deleted, %v", c.after, d.deleted, err)
				}
				time.Sleep(time.Millisecond)
				if err := s.tidy(t.Context()); err != nil || d.deleted != 1 {
					t.Errorf("after that: %d deleted, %v", d.deleted, err)
				}
				if s.dropBytes != 0 {
					t.Errorf("%d bytes are kept yet", s.dropBytes)
				}
			})
		})
	}
}

// Of nodes that are given back it is not known how many bytes they hold.
func TestTidy_whatWasGivenBackGoesSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScribe(&Agent{})
		d := &dropping{}
		s.session = d
		s.lineUp(true)
		s.unsynced = []frame.Turn{{Number: 1}}
		s.durable(1)
		s.giveDrops(s.takeDrops())
		time.Sleep(keep + time.Millisecond)
		if err := s.tidy(t.Context()); err != nil || d.deleted != 1 {
			t.Errorf("%d deleted, %v", d.deleted, err)
		}
	})
}

// A host that hangs again and again holds up others for a second in five, not for ever more.
func TestVain_isASecondInFive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v vain
		began := time.Now()
		for range 4 {
			v.add(mostPatience / 4)
			time.Sleep(impatience / 4)
			if left := v.left(); time.Since(began) < impatience && left != mostPatience-time.Since(began)/5 {
				t.Errorf("after %v there is %v left", time.Since(began), left)
			}
		}
		time.Sleep(1 * time.Millisecond)
		if v.left() != mostPatience {
			t.Errorf("after %v there is %v left", time.Since(began), v.left())
		}
	})
}

// working is a session with many turns' nodes, all of one agent that is at work.
type working struct {
	emptyZooKeeper
	nodes map[string][]byte
	read  []string
}

func (w *working) Children(context.Context, string) (names []string, err error) {
	for node := range w.nodes {
		names = append(names, path.Base(node))
	}
	return names, nil
}

func (w *working) Get(_ context.Context, node string) (session.Node, error) {
	if data, ok := w.nodes[node]; ok {
		w.read = append(w.read, node)
		return session.Node{Data: data, Stat: &zk.Stat{}}, nil
	}
	if path.Base(path.Dir(node)) == "agents" {
		return session.Node{Data: encode(member{Run: uuid.Nil.String()}), Stat: &zk.Stat{}}, nil
	}
	return session.Node{Stat: &zk.Stat{}}, nil
}

// In a large fleet that is well there are many nodes whose owners are at work: a sweep reads
// a few, and the next goes on behind them, for a dead agent's may be among them.
func TestSettleLeftovers_readsFewNodesOfAgentsAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(Options{File: &writer.File{}, Jitter: func(time.Duration) time.Duration { return 0 }})
		head := frame.Begin(frame.Incarnation{ID: uuid.New(), From: 1}, 0, nil, "a", time.Unix(1, 0))
		w := &working{nodes: map[string][]byte{}}
		for n := range 100 {
			turn := head.Next(frame.Header{Agent: "other", Token: frame.Token(n + 1), At: time.Unix(2, 0)}, uuid.Nil, [][]byte{[]byte("a record")})
			w.nodes[a.Root.Turn(head.Incarnation, turn.Number)] = turn.Encode()
			head = head.After(turn.Header, len(turn.Bytes))
		}
		s := a.scribe
		s.session, s.head = w, head
		for n := range 8 {
			if err := s.settleLeftovers(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(w.read) != n*mostWorkers {
				t.Fatalf("%d sweeps read %d nodes, want %d at a time", n, len(w.read), mostWorkers)
			}
			time.Sleep(mature)
		}
		for n := range 100 { // and then from the first again
			if node := a.Root.Turn(head.Incarnation, uint64(n+1)); w.read[n] != node || n < 12 && w.read[n+100] != node {
				t.Errorf("the nodes were not read in order: %s", w.read[n])
			}
		}
	})
}

// waiting is a scribe whose file holds an incarnation's line alone, and a turn of an agent
// that is at work and that may be waited for up to a second.
func waiting(t *testing.T) (*scribe, frame.Turn) {
	t.Helper()
	file, err := writer.Open(writer.Options{Path: filepath.Join(t.TempDir(), "data.txt")})
	if err != nil {
		t.Fatal(err)
	}
	i := frame.Incarnation{ID: uuid.New(), From: 1}
	head, first := frame.Begin(i, 0, nil, "a", time.Unix(1, 0)), frame.First(i, uuid.New())
	if _, err := file.Attach(head, &first); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(file.Detach)
	if err := file.WriteAt(first.Bytes, 0); err != nil {
		t.Fatal(err)
	}
	a := New(Options{File: file})
	turn := head.Next(frame.Header{Agent: "other", Token: 1, At: time.Unix(2, 0)}, uuid.Nil, [][]byte{[]byte("a record")})
	a.scribe.session = &working{}
	a.scribe.waits[turn.Run.String()] = patience{most: mostPatience}
	return a.scribe, turn
}

// Whoever is waited for in vain is not waited for again; but not who had less time than he
// is known to need.
func TestWaitFor_aWaitThatWasCutShortSaysNothingOfItsOwner(t *testing.T) {
	for _, left := range []time.Duration{time.Millisecond, mostPatience} {
		synctest.Test(t, func(t *testing.T) {
			s, turn := waiting(t)
			s.vain.add(mostPatience - left)
			began := time.Now()
			if wrote, err := s.waitFor(t.Context(), turn); wrote || err != nil {
				t.Fatal(wrote, err)
			}
			if waited := time.Since(began); waited != left || s.vain.left() > 0 {
				t.Errorf("it waited %v of %v, and may wait %v more", waited, left, s.vain.left())
			}
			want := mostPatience
			if left == mostPatience {
				want = 0
			}
			if most := s.waits[turn.Run.String()].most; most != want {
				t.Errorf("after %v its owner is waited for %v, want %v", left, most, want)
			}
		})
	}
}

// Who may not wait any more looks all the same: others come behind the same gap.
func TestWriteFor_whatTheFileShowsIsNotWrittenForItsOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, turn := waiting(t)
		s.vain.add(mostPatience)
		if err := s.File.WriteAt(turn.Bytes, turn.Offset); err != nil {
			t.Fatal(err)
		}
		if err := s.writeFor(turn); err != nil || len(s.unsynced) > 0 {
			t.Errorf("%v; it wrote %d turns", err, len(s.unsynced))
		}
	})
}

// Where a hundred agents wait behind one that is late, each of them would else read all that
// is missing, which makes all of them late.
func TestFill_whoWaitsBehindALateScribeReadsFewTurns(t *testing.T) {
	for late, most := range map[time.Duration]int{30 * time.Millisecond: 1, 100 * time.Millisecond: 5, 300 * time.Millisecond: 15} {
		synctest.Test(t, func(t *testing.T) {
			s, turn := waiting(t)
			clear(s.waits)
			w := s.session.(*working)
			w.nodes = map[string][]byte{}
			head := frame.Head{Incarnation: turn.Incarnation, Turn: turn.Number, Offset: turn.End(), Sum: turn.Sum()}
			s.head = head
			var missing []frame.Turn
			for n := range 20 { // an agent each
				missing = append(missing, turn)
				w.nodes[s.Root.Turn(turn.Incarnation, turn.Number)] = turn.Encode()
				w.nodes[path.Join(s.Root.Agents(), turn.Header.Agent)] = encode(member{Run: turn.Run.String()})
				header := frame.Header{Agent: fmt.Sprintf("agent-%d", n), Token: turn.Header.Token + 1, At: time.Unix(2, 0)}
				turn = head.Next(header, uuid.New(), [][]byte{[]byte("a record")})
				head = head.After(turn.Header, len(turn.Bytes))
			}
			others, err := os.OpenFile(s.File.Path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer others.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				time.Sleep(late)
				for _, m := range missing {
					if _, err := others.WriteAt(m.Bytes, m.Offset); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Millisecond)
				}
			}()
			if err := s.fill(t.Context(), turn); err != nil {
				t.Fatal(err)
			}
			<-done
			if end, err := s.File.End(); end != turn.Offset || err != nil || len(s.unsynced) > 0 {
				t.Errorf("the file has %d bytes, want %d: %v; it wrote %d turns", end, turn.Offset, err, len(s.unsynced))
			}
			read := 0
			for _, node := range w.read {
				if path.Dir(node) != s.Root.Agents() {
					read++
				}
			}
			if read > most || s.vain.left() < mostPatience {
				t.Errorf("behind one that is %v late it read %d turns, want %d; it may wait %v more", late, read, most, s.vain.left())
			}
		})
	}
}

// A file that was cut meanwhile is not written beyond its end.
func TestWriteFor_neverLeavesAGap(t *testing.T) {
	s, turn := waiting(t)
	turn.Offset++
	if err := s.writeFor(turn); err != nil || len(s.unsynced) > 0 {
		t.Errorf("%v; it wrote %d turns", err, len(s.unsynced))
	}
}
