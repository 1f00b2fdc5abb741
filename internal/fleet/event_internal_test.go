package fleet

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/session"
	"github.com/turnstile-fleet/turnstile/internal/writer"
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
	agents int32
	listed int
}

func (c *crowd) Get(context.Context, string) (session.Node, error) {
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
	}
}
