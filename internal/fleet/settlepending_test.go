package fleet_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// leave is a run of the agent called mine that committed turns of one record, mine 0,
// mine 1, …, and left them pending. It gives the path of its acknowledgement log.
func (s *site) leave(count int) (acks string) {
	s.t.Helper()
	g, source := s.ghost("mine"), &script{name: "mine"}
	var left []fleet.Left
	for n := range count {
		turn := g.commit(source.record(n))
		left = append(left, fleet.Left{
			Run:     frame.AckRun{Agent: "mine", Incarnation: turn.Incarnation},
			Pending: frame.Pending{Turn: turn.Number, Offset: turn.Offset, Sum: turn.Sum()},
		})
	}
	acks = filepath.Join(s.dir, "acks")
	log := ackLog(s.t, acks)
	defer log.Close()
	if err := log.Pend(left); err != nil {
		s.t.Fatal(err)
	}
	g.sess.Close()
	return acks
}

// Settling fails half way, and is tried again: what was settled is not acknowledged twice.
func TestRun_whatIsSettledBeforeAFailureIsAcknowledgedOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	s.turns("before", 1)
	acks := s.leave(3)
	fs := newFaultFS()
	fs.failNth("datasync", 2, 0, syscall.EIO)
	next := &script{name: "next", count: 1}
	opts := s.on(fs, next)
	opts.Acks = ackLog(t, acks)
	agent := s.start(opts)
	if err := agent.wait(); err != nil {
		t.Fatal(err)
	}
	if !agent.says("held up") {
		t.Error("nothing failed")
	}
	opts.Acks.Close()
	log := string(s.everything()[acks])
	wantAcksInOrder(t, log, 4)
	for _, line := range []string{"\n2 1 ", "\n3 1 ", "\n4 1 ", "\n5 1 "} {
		if n := strings.Count(log, line); n != 1 {
			t.Errorf("%q is %d times in the log", line, n)
		}
	}
	s.verify(acks)
	s.wantOnce(&script{name: "before", count: 1}, &script{name: "mine", count: 3}, next)
}

// A sync is under way when the last run's turns are to be settled: it is waited for, since
// of two syncs of one descriptor only one is told that it failed.
func TestRun_settlingWaitsForASyncThatIsUnderWay(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	s.turns("before", 1)
	dead := s.ghost("dead")
	dead.commit("left 0") // the turn 2, which is filled in before the turn 3
	dead.sess.Close()
	acks := s.leave(1)

	fs := newFaultFS()
	var mine atomic.Pointer[fleet.Session]
	var sessions, syncs atomic.Int64
	entered, second, syncing := make(chan struct{}), make(chan struct{}), make(chan struct{})
	fs.set(func(d deed) (int, error) {
		switch {
		case d.op == "write" && strings.HasPrefix(string(d.bytes), "#turn 3 ") && sessions.Load() == 1:
			(*mine.Load()).Discard("a test says so") // the turn 2 is written, and not synced
			return 0, syscall.EIO
		case d.op == "datasync" && syncs.Add(1) == 1:
			close(syncing)
			<-entered
			select {
			case <-second:
			case <-time.After(300 * time.Millisecond): // may pass what should fail, never the other way
			}
			return 0, syscall.EIO
		case d.op == "datasync" && syncs.Load() == 2:
			close(second)
		}
		return 0, nil
	})
	next := &script{name: "next", count: 1}
	opts := s.on(fs, next)
	opts.Acks = ackLog(t, acks)
	opts.Dial = dialFor(s.zk, func(sess fleet.Session) { sessions.Add(1); mine.Store(&sess) })
	enter := sync.OnceFunc(func() { close(entered) })
	opts.Named = func(string) {
		if sessions.Load() == 2 { // in the fleet again, and about to settle
			<-syncing
			enter()
		}
	}
	agent := s.start(opts)
	if err := agent.wait(); err != nil {
		t.Fatal(err)
	}
	overlap := 0
	for _, d := range fs.log("datasync.begins", "datasync") {
		if d.op == "datasync" {
			overlap--
		} else if overlap++; overlap > 1 {
			t.Error("a sync began while another was under way")
		}
	}
	s.verify(acks)
	s.wantOnce(&script{name: "before", count: 1}, &script{name: "left", count: 1}, &script{name: "mine", count: 1}, next)
}

// Another file stands in the file's place when the sync of a turn that was left ends: it is
// not acknowledged, and its node not deleted, before it is in that file too.
func TestRun_whatWasSettledInAnotherFileIsSettledAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	s.turns("before", 1)
	older := s.read()
	acks := s.leave(1)
	fs := newFaultFS()
	var once sync.Once
	fs.set(func(d deed) (int, error) {
		if d.op == "datasync" {
			once.Do(func() {
				if err := os.Rename(s.path, s.path+".old"); err != nil {
					t.Error(err)
				}
				if err := os.WriteFile(s.path, older, 0o644); err != nil {
					t.Error(err)
				}
			})
		}
		return 0, nil
	})
	next := &script{name: "next", count: 1}
	next.before = func(int) {
		text := string(s.read())
		if report := s.judge(acks); !strings.Contains(text, "\nmine 0\n") || report.Acknowledged != 1 {
			t.Errorf("the next run reads its input: %d acknowledged, the file is %q", report.Acknowledged, text)
		}
	}
	opts := s.on(fs, next)
	opts.Acks = ackLog(t, acks)
	agent := s.start(opts)
	if err := agent.wait(); err != nil {
		t.Fatal(err)
	}
	s.verify(acks)
	s.wantOnce(&script{name: "before", count: 1}, &script{name: "mine", count: 1}, next)
}
