package fleet_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// idle starts an agent that has nothing to write, and waits until it is in the fleet.
func (s *site) idle(fs *faultFS) *outing {
	s.t.Helper()
	input, keep := io.Pipe()
	s.t.Cleanup(func() { keep.Close() })
	named := make(chan string, 9)
	opts := s.on(fs, fleet.NewLines(input, 10, 1<<16))
	opts.Named = func(name string) { named <- name }
	o := s.start(opts)
	select {
	case <-named:
	case <-time.After(20 * time.Second):
		s.t.Fatal("it does not enter the fleet")
	}
	return o
}

// A dead owner's turns are written, synced and deleted by an agent that is idle, within 5 s
// (row 3).
func TestRun_anIdleAgentSettlesWhatTheDeadLeft(t *testing.T) {
	t.Parallel()
	s := begun(t)
	fs, sess := newFaultFS(), s.onlooker()
	dead := s.ghost("dead")
	idle := s.idle(fs)
	committed := time.Now()
	dead.commit("left 0", "left 1")
	dead.commit("left 2")
	dead.sess.Close()
	s.within(6*time.Second, "they are written", func() bool { return len(fs.covered()) == 2 }) // 5 s, and a machine that is busy
	if took := time.Since(committed); took < 3*time.Second {
		t.Errorf("they are written after %v already: their owner may be at it", took)
	}
	s.within(3*time.Second, "they are settled", func() bool { return len(s.nodes(sess)) == 0 })
	if got := turnsIn(fs.log("write")); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("the turns %d were written", got)
	}
	s.verify()
	s.wantOnce(&script{name: "before", count: 1}, &script{name: "left", count: 3})
	idle.stop()
	if err := idle.wait(); err != nil {
		t.Error(err)
	}
}

// A turn of an owner at work is its own business; that of one who is held up is not.
func TestRun_whatAnOwnerIsAtWorkOnIsLeftToIt(t *testing.T) {
	t.Parallel()
	s := begun(t)
	fs, sess := newFaultFS(), s.onlooker()
	dead, busy := s.ghost("dead"), s.ghost("busy")
	busy.enrol("")
	s.idle(fs)
	mine := busy.commit("mine 0") // the turn 2, which is in the file, and on no disk
	s.put(append(s.read(), mine.Bytes...))
	dead.commit("left 0")
	// Both get old together, and the lower number is looked at first.
	s.until("the dead's turn is settled", func() bool { return !slices.Contains(s.nodes(sess), 3) })
	if !slices.Contains(s.nodes(sess), 2) {
		t.Error("the node of a turn whose owner is at work was deleted")
	}
	busy.enrol("no space left on device")
	s.until("the turn of who is held up is settled", func() bool { return len(s.nodes(sess)) == 0 })
	if got := turnsIn(fs.log("write")); !slices.Equal(got, []int{3, 2}) {
		t.Errorf("the turns %d were written: a turn that is in the file must be written all the same", got)
	}
	s.verify()
	s.wantOnce(&script{name: "before", count: 1}, &script{name: "mine", count: 1}, &script{name: "left", count: 1})
}

// An agent whose input is silent, and whose volume does not take its last turn, tells the
// fleet, and an idle one writes it.
func TestRun_whoIsHeldUpWhileItWaitsForInputSaysSo(t *testing.T) {
	t.Parallel()
	s := begun(t)
	fs, sess := newFaultFS(), s.onlooker()
	s.idle(newFaultFS())
	input, keep := io.Pipe()
	defer keep.Close()
	opts := s.on(fs, fleet.NewLines(input, 10, 1<<16))
	opts.Name = "full"
	fs.fail("write", syscall.ENOSPC)
	full := s.start(opts)
	if _, err := io.WriteString(keep, "mine 0\n"); err != nil {
		t.Fatal(err)
	}
	s.until("it says so", func() bool { return strings.Contains(s.held(sess, "full"), "no space left") })
	s.until("another writes its turn", func() bool { return len(s.tryRecords()) == 2 && len(s.nodes(sess)) == 0 })
	if turns, _ := full.agent.Acknowledged(); turns != 0 {
		t.Error("it is acknowledged by who has not written it")
	}
	fs.heal()
	s.until("it is no longer held up", func() bool { return s.held(sess, "full") == "" })
	keep.Close()
	if err := full.wait(); err != nil {
		t.Error(err)
	}
	s.verify()
}

// So much is in ZooKeeper that the file is filled before more is committed.
func TestRun_moreThanEightMegabytesBehindIsFilledBeforeTheNextCommit(t *testing.T) {
	t.Parallel()
	server := own(t)
	s := newSite(t, server.Addr())
	s.turns("before", 1)
	fs := newFaultFS()
	source := &script{name: "mine", count: 1}
	went := false
	var end int64
	source.before = func(int) { // it is in the fleet, and has looked
		dead := s.ghost("dead")
		long := strings.Repeat("x", frame.MaxRecord-1)
		for range 35 {
			end = dead.commit(long, long, long, long[:1<<16-600]).End()
		}
		dead.sess.Close()
		went = true
	}
	source.during = func(int) {
		if n := int64(len(s.read())); end-n > 8<<20 {
			t.Errorf("it commits when the file has %d bytes, and ZooKeeper the other %d", n, end-n)
		}
	}
	if err := s.run(s.on(fs, source)); err != nil || !went {
		t.Fatal(err)
	}
	if report := s.verify(); report.Turns != 37 {
		t.Errorf("%d turns", report.Turns)
	}
}

// asleep is a source that is asked for a second time only when the gate opens.
type asleep struct {
	*script
	asked atomic.Int64
	gate  chan struct{}
}

func (a *asleep) Wait(ctx context.Context) error {
	if a.asked.Add(1) > 1 {
		select {
		case <-a.gate:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return a.script.Wait(ctx)
}

// An agent has begun the file, and another has written turn 0 and died: nobody else is at work
// on that, and so its node goes by the one that began.
func TestRun_whoBeganTheFileSettlesItsTurn0(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	sess := s.onlooker()
	source := &asleep{script: &script{name: "mine", count: 1}, gate: make(chan struct{})}
	agent := s.start(s.calm(source))
	var first frame.Turn
	s.until("it has begun the file", func() bool {
		names, err := filelock.ListTurns(t.Context(), sess, s.root)
		if err != nil || len(names) != 1 {
			return false
		}
		first, err = filelock.ReadTurn(t.Context(), sess, s.root, names[0])
		return err == nil
	})
	s.put(first.Bytes)
	s.until("turn 0 has no node", func() bool { return len(s.nodes(sess)) == 0 })
	close(source.gate)
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
	s.verify()
	s.wantOnce(source.script)
}

// A leftover follows a turn that is not written yet, and whose agent is at work: a reader
// never meets the gap between them.
func TestRun_aLeftoverIsWrittenAfterWhatIsMissingBeforeIt(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	s.turns("before", 1)
	slow := s.ghost("slow")
	slow.enrol("")
	slow.commit("of one at work")
	s.ghost("dead").commit("left behind")
	fs := newFaultFS()
	end := int64(len(s.read()))
	fs.after = func(d deed) {
		if d.op != "write" {
			return
		}
		if d.at > end {
			t.Errorf("%d bytes are written at %d, and the file ended at %d", len(d.bytes), d.at, end)
		}
		end = max(end, d.at+int64(len(d.bytes)))
	}
	s.idle(fs)
	s.until("the leftover is written", func() bool { return slices.Contains(s.tryRecords(), "left behind") })
	s.verify()
}
