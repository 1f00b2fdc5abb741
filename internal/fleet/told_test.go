package fleet_test

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// silent are the options of an agent whose input says nothing.
func (s *site) silent(fs *faultFS) fleet.Options {
	s.t.Helper()
	input, keep := io.Pipe()
	s.t.Cleanup(func() { keep.Close() })
	return s.on(fs, fleet.NewLines(input, 10, 1<<16))
}

// Bytes behind head, though zeros, which a turn would fit, are refused by who enters: not
// only when it has something to commit.
func TestRun_whoEntersRefusesBytesBehindHead(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	s.turns("before", 1)
	s.put(append(s.read(), make([]byte, 5000)...))
	before := s.everything()
	err := s.start(s.silent(newFaultFS())).wait()
	wantRefused(t, "zeros behind head", err)
	s.wantUnchanged(before)
}

// Bytes behind head that the scribe came upon while it wrote, though a turn would fit, are
// refused by the next holder: nothing more is committed.
func TestRun_aHolderRefusesBytesBehindHead(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	s.turns("before", 1)
	source := &script{name: "mine", count: 5}
	source.before = func(int) {}
	source.during = func(n int) {
		if n == 1 {
			s.put(append(s.read(), make([]byte, 5000)...))
		}
	}
	err := s.start(s.calm(source)).wait()
	wantRefused(t, "zeros behind head", err)
	if n, acked := source.at(); n != 2 || acked != 2 {
		t.Errorf("%d were committed and %d acknowledged, want two", n, acked)
	}
	if err == nil || !strings.Contains(err.Error(), "5000 bytes") && !strings.Contains(err.Error(), "something else writes") {
		t.Errorf("it says: %v", err)
	}
}

// ZooKeeper went back to a turn that the file ends with, so that all looks well: who has
// seen a later turn refuses it when it enters again, though it has nothing to commit.
func TestRun_whoHasSeenALaterTurnRefusesAnOlderHead(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	s.turns("before", 2)
	sess := s.onlooker()
	past := s.getHead(sess)
	others := s.ghost("others")
	others.enrol("") // at work, so that its turn is left to it
	turn := others.commit("left 0")

	var mine atomic.Pointer[fleet.Session]
	named := make(chan struct{}, 9)
	opts := s.silent(newFaultFS())
	opts.Dial = dialFor(s.zk, func(sess fleet.Session) { mine.Store(&sess) })
	opts.Named = func(string) { named <- struct{}{} }
	agent := s.start(opts)
	<-named
	s.setHead(sess, past)
	if err := sess.Delete(t.Context(), s.root.Turn(turn.Incarnation, turn.Number)); err != nil && !errors.Is(err, zk.ErrNoNode) {
		t.Fatal(err)
	}
	before := s.everything()
	(*mine.Load()).Discard("a test says so")
	err := agent.wait()
	wantRefused(t, "an older head", err)
	if err == nil || !strings.Contains(err.Error(), "went back in time") {
		t.Errorf("it says: %v", err)
	}
	s.wantUnchanged(before)
}

// failing are lives on a volume that may fail.
type failing struct {
	fleet.Lives
	fails *atomic.Bool
}

func (f failing) Stands(life string) (bool, error) {
	if f.fails.Load() {
		return false, syscall.EIO
	}
	return f.Lives.Stands(life)
}

// The volume of an agent that has nothing to write fails: the agent is held up until the
// volume could be looked at again, not only until its next round.
func TestRun_anIdleAgentIsHeldUpUntilTheVolumeWasLookedAt(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	s.turns("before", 1)
	fs, fails := newFaultFS(), &atomic.Bool{}
	named := make(chan struct{}, 9)
	opts := s.silent(fs)
	opts.Lives = failing{opts.Lives, fails}
	opts.Named = func(string) { named <- struct{}{} }
	agent := s.start(opts)
	<-named
	fs.fail("lstat", syscall.EIO)
	fails.Store(true)
	s.until("it says that it is held up", func() bool { return agent.says("held up: no turn is taken") })
	tries := fs.begun("lstat")
	s.until("it has tried twice more", func() bool { return agent.says("no longer held up") || fs.begun("lstat") > tries+1 })
	if agent.says("no longer held up") {
		t.Error("it says that it is no longer held up, and the volume fails")
	}
	fails.Store(false)
	fs.heal()
	s.until("it is no longer held up", func() bool { return agent.says("no longer held up") })
	agent.stop()
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
}
