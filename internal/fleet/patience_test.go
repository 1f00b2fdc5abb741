package fleet_test

import (
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/lifeline"
)

// away takes the path away for a moment, as an adoption does between its two renames.
func (s *site) away() (back chan struct{}) {
	s.t.Helper()
	if err := os.Rename(s.path, s.path+".old"); err != nil {
		s.t.Error(err)
	}
	back = make(chan struct{})
	time.AfterFunc(700*time.Millisecond, func() {
		defer close(back)
		if err := os.Rename(s.path+".old", s.path); err != nil {
			s.t.Error(err)
		}
	})
	return back
}

// A fleet has no file yet, and the volume of an agent that waits for input fails for a while.
func TestRun_anIdleAgentOfANewFleetOutlivesAVolumeThatFails(t *testing.T) {
	t.Parallel()
	s := newSite(t, own(t).Addr())
	input, write := io.Pipe()
	lives := &faultLives{Dir: lifeline.Dir(s.alive())}
	opts := s.on(newFaultFS(), fleet.NewLines(input, 10, 1<<16))
	opts.Name, opts.Lives = "me", lives
	in := make(chan string, 9)
	opts.Named = func(name string) { in <- name }
	agent, onlooker := s.start(opts), s.onlooker()
	<-in
	var asked atomic.Int64
	lives.set(func() error { asked.Add(1); return syscall.EIO })
	s.until("the volume has failed", func() bool { return asked.Load() > 0 })
	lives.set(nil)
	s.until("it is well again", func() bool { return agent.says("no longer held up") && s.held(onlooker, "me") == "" })
	io.WriteString(write, "a line\n")
	write.Close()
	if err := agent.wait(); err != nil {
		t.Fatal(err)
	}
	if got := s.records(); len(got) != 1 {
		t.Errorf("in the file: %q", got)
	}
	s.verify()
}

// A holder that found the file far behind lets go of its turn to fill it, and whose path is
// missing then is looked for again.
func TestRun_whoFillsTheFileHasPatienceWithAPathThatIsMissing(t *testing.T) {
	t.Parallel()
	s := newSite(t, own(t).Addr())
	s.turns("before", 1)
	others := s.ghost("others")
	others.enrol("")
	opts := s.calm(&script{name: "mine", count: 1})
	var back chan struct{}
	s.watch(&opts, func(nth int) {
		if nth == 1 {
			others.round()
			back = s.away()
		}
	})
	err := s.start(opts).wait()
	<-back
	if err != nil {
		t.Fatal(err)
	}
	s.verify()
}

// As TestRun_settlingWaitsForASyncThatIsUnderWay, but the sync ends well, and the path is
// missing for a moment then.
func TestRun_whoSettlesHasPatienceWithAPathThatIsMissing(t *testing.T) {
	t.Parallel()
	s := newSite(t, own(t).Addr())
	s.turns("before", 1)
	dead := s.ghost("dead")
	dead.commit("left 0")
	dead.sess.Close()
	acks := s.leave(1)
	fs := newFaultFS()
	var mine atomic.Pointer[fleet.Session]
	var sessions, syncs atomic.Int64
	entered, syncing := make(chan struct{}), make(chan struct{})
	back := make(chan chan struct{}, 1)
	fs.set(func(d deed) (int, error) {
		switch {
		case d.op == "write" && strings.HasPrefix(string(d.bytes), "#turn 3 ") && sessions.Load() == 1:
			(*mine.Load()).Discard("a test says so")
			return 0, syscall.EIO
		case d.op == "datasync" && syncs.Add(1) == 1:
			close(syncing)
			<-entered
			back <- s.away()
		}
		return 0, nil
	})
	opts := s.on(fs, &script{name: "next", count: 1})
	opts.Acks = ackLog(t, acks)
	opts.Dial = dialFor(s.zk, func(sess fleet.Session) { sessions.Add(1); mine.Store(&sess) })
	enter := sync.OnceFunc(func() { close(entered) })
	opts.Named = func(string) {
		if sessions.Load() == 2 {
			<-syncing
			time.AfterFunc(200*time.Millisecond, enter) // it waits for the sync by then
		}
	}
	err := s.start(opts).wait()
	<-<-back
	if err != nil {
		t.Fatal(err)
	}
	s.verify(acks)
}
