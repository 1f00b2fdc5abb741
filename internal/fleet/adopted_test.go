package fleet_test

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/adopt"
	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/internal/zkdev"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// parsedHead is head as ZooKeeper has it.
func (s *site) parsedHead(sess fleet.Session) frame.Head {
	s.t.Helper()
	head, err := frame.ParseHead(s.getHead(sess))
	if err != nil {
		s.t.Fatal(err)
	}
	return head
}

// publish publishes the head of another incarnation that goes on after the old head, as an
// adoption does before it moves its copy in. It gives the copy's line.
func (s *site) publish(sess fleet.Session, old frame.Head) (line string) {
	s.t.Helper()
	i := frame.Incarnation{ID: uuid.New(), From: old.Turn + 1}
	s.setHead(sess, frame.Begin(i, old.Offset, &old.Sum, "adopt", time.Now()).Encode())
	return i.Line() + "\n"
}

// moveIn puts a copy in the file's place.
func (s *site) moveIn(text []byte) {
	s.t.Helper()
	copied := s.path + ".copy"
	if err := os.WriteFile(copied, text, 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(copied, s.path); err != nil {
		s.t.Fatal(err)
	}
}

// adopt is `agent adopt`.
func (s *site) adopt() {
	s.t.Helper()
	if _, err := adopt.Run(s.t.Context(), adopt.Options{Sess: s.onlooker(), Root: s.root, Host: "host", File: writer.Options{Path: s.path}}); err != nil {
		s.t.Fatal(err)
	}
}

// An adoption has published its head and not moved its copy in. An agent that reads that
// head, for a leftover, does not take the file that is open for the new incarnation's: it
// writes nothing into it, and looks before it commits.
func TestRun_theHeadOfAnotherIncarnationIsNotTakenOverWithoutALook(t *testing.T) {
	t.Parallel()
	server := own(t)
	s := newSite(t, server.Addr())
	s.turns("before", 1)
	sess, fs := s.onlooker(), newFaultFS()
	input, keep := io.Pipe()
	defer keep.Close()
	opts := s.on(fs, fleet.NewLines(input, 10, 1<<16))
	var mine atomic.Int64
	named := make(chan string, 9)
	opts.Dial = dialFor(s.zk, func(sess fleet.Session) { mine.Store(sess.ID()) })
	opts.Named = func(name string) { named <- name }
	agent := s.start(opts)
	<-named
	old := s.parsedHead(sess)
	dead := s.ghost("dead")
	dead.commit("left 0")
	dead.sess.Close()
	s.publish(sess, s.parsedHead(sess))
	read := make(chan struct{})
	once := sync.OnceFunc(func() { close(read) })
	server.SetHook(func(at zkdev.Point, r zkdev.Request) zkdev.Action {
		if at == zkdev.AfterReply && r.Session == mine.Load() && len(r.Paths) == 1 && r.Paths[0] == s.root.Head() {
			once()
		}
		return zkdev.Proceed
	})
	select {
	case <-read:
	case <-time.After(30 * time.Second):
		t.Fatal("head is not read")
	}
	if _, err := io.WriteString(keep, "mine 0\n"); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "a head whose file has not moved in", agent.wait())
	if head := s.parsedHead(sess); head.Turn != old.Turn+1 {
		t.Errorf("turn %d was committed before the file was looked at", head.Turn)
	}
	if wrote := fs.log("write"); len(wrote) > 0 {
		t.Errorf("it wrote %v into a file that is not the new incarnation's", wrote)
	}
}

// A turn that was written and never synced has no place in the file that was adopted
// meanwhile, which has grown just as far as where the turn belonged: it is not written there.
func TestRun_aTurnThatAnAdoptionGaveUpIsNotWritten(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]bool{"it looks at the file at once": false, "its session ends while it looks": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := own(t)
			s := newSite(t, server.Addr())
			s.turns("before, with a record that is so long that there is room in its place for what another agent writes, and for a line", 1)
			fs := newFaultFS()
			source := &script{name: "mine", count: 1}
			opts := s.on(fs, source)
			var mine atomic.Int64
			opts.Dial = dialFor(s.zk, func(sess fleet.Session) { mine.Store(sess.ID()) })
			let := sync.OnceFunc(func() {})
			source.during = func(int) { let = fs.hang("datasync") }
			agent := s.start(opts)
			s.until("it is written, and not synced", func() bool { return fs.stuck.Load() > 0 && len(s.tryRecords()) == 2 })
			text := s.adoptWithLoss()
			var over atomic.Bool
			server.SetHook(func(at zkdev.Point, r zkdev.Request) zkdev.Action {
				if ends && at == zkdev.BeforeEffect && r.Session == mine.Load() && fs.measured(2) && over.CompareAndSwap(false, true) {
					server.ExpireSession(r.Session)
					return zkdev.CloseConn
				}
				return zkdev.Proceed
			})
			let()
			wantRefused(t, "a turn that was given up", agent.wait())
			if !bytes.Equal(s.read(), text) {
				t.Errorf("the adopted file was changed: %q", s.read()[min(len(text), len(s.read())):])
			}
			if _, acked := source.at(); acked != 0 || over.Load() != ends {
				t.Errorf("%d acknowledged; its session ended: %v", acked, over.Load())
			}
		})
	}
}

// measured tells whether it was asked where the file ends, through the nth descriptor.
func (f *faultFS) measured(nth int) bool {
	return slices.ContainsFunc(f.log("read"), func(d deed) bool { return d.handle == nth })
}

// adoptWithLoss adopts a copy of the file's first line alone, and has another agent write a
// turn that ends where the turn 2 of the old file began. It gives the file's new text.
func (s *site) adoptWithLoss() (text []byte) {
	s.t.Helper()
	old := s.read()
	end := bytes.Index(old, []byte("\n#turn 2 ")) + 1
	first, _, _ := bytes.Cut(old, []byte("\n"))
	i, err := frame.ParseIncarnation(first)
	if err != nil {
		s.t.Fatal(err)
	}
	text = append(append(text, first...), '\n')
	text = append(text, s.publish(s.onlooker(), frame.Begin(i, 0, nil, "a", time.Now()))...)
	other, room := s.ghost("other"), end-len(text)
	for n := room; n > 0; n-- { // the header says how long the record is
		hold := other.hold()
		turn := other.turn(hold, strings.Repeat("x", n))
		if len(turn.Bytes) == room {
			if _, err := hold.Commit(s.t.Context(), filelock.Commit{Turn: turn}); err != nil {
				s.t.Fatal(err)
			}
			text = append(text, turn.Bytes...)
			s.moveIn(text)
			return text
		}
		hold.Release()
	}
	s.t.Fatalf("no turn has %d bytes", room)
	return nil
}

// While an agent looks at the file, another incarnation's head is published. Something else
// wrote just as much behind the file's end as the new incarnation's line has: that is not it.
func TestRun_anAdoptionWhileTheFileIsLookedAtIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	s.turns("before", 1)
	sess, fs := s.onlooker(), newFaultFS()
	old := s.parsedHead(sess)
	publish := sync.OnceFunc(func() {
		line := s.publish(sess, old)
		s.put(append(s.read(), strings.Repeat("x", len(line))...))
	})
	fs.set(func(d deed) (int, error) {
		if d.op == "read" { // of the line: what follows is the measure
			publish()
		}
		return 0, nil
	})
	source := &script{name: "mine", count: 1}
	wantRefused(t, "a file without the incarnation's line", s.run(s.on(fs, source)))
	if head := s.parsedHead(sess); head.Turn != 1 {
		t.Errorf("turn %d was committed", head.Turn)
	}
}

// So much is missing that the file is filled first, and another incarnation's head is
// published just then: its turns are not written into the file that is open.
func TestRun_whatIsFilledUpBeforeACommitIsTheIncarnationsOwn(t *testing.T) {
	t.Parallel()
	server := own(t)
	s := newSite(t, server.Addr())
	s.turns("before", 1)
	sess, fs := s.onlooker(), newFaultFS()
	old := s.parsedHead(sess)
	var behind atomic.Bool
	publish := sync.OnceFunc(func() {
		i := frame.Incarnation{ID: uuid.New(), From: 2}
		line := old.Offset - int64(len(i.Line())+1) // so that it goes on where the file ends
		s.setHead(sess, frame.Begin(i, line, &old.Sum, "adopt", time.Now()).Encode())
		s.ghost("other").commit("another incarnation's")
	})
	fs.set(func(d deed) (int, error) {
		if d.op == "lstat" && behind.Load() {
			publish()
		}
		return 0, nil
	})
	source := &script{name: "mine", count: 1}
	source.before = func(int) {
		busy, long := s.ghost("busy"), strings.Repeat("x", frame.MaxRecord-1)
		busy.enrol("") // or what it left would be settled
		for range 35 {
			busy.commit(long, long, long, long[:1<<16-600])
		}
		behind.Store(true)
	}
	wantRefused(t, "a file without the incarnation's line", s.run(s.on(fs, source)))
	if wrote := fs.log("write"); len(wrote) > 0 {
		t.Errorf("it wrote %v into a file that is not the new incarnation's", wrote)
	}
}

// An agent that is idle learns of a file that was adopted, or begun, by what the dead left
// there: it settles that too.
func TestRun_anIdleAgentFollowsTheFileToItsNextIncarnation(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *site){
		"adopted": (*site).adopt,
		"begun":   func(s *site) { s.turns("first", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, zktest.Shared(t))
			if name == "adopted" {
				s.turns("before", 1)
			}
			sess, fs := s.onlooker(), newFaultFS()
			idle := s.idle(fs)
			change(s)
			dead := s.ghost("dead")
			dead.commit("left 0")
			dead.commit("left 1")
			dead.sess.Close()
			s.within(12*time.Second, "they are settled", func() bool { return len(s.nodes(sess)) == 0 }) // 6 s, and a machine that is busy
			if got := len(turnsIn(fs.log("write"))); got != 2 {
				t.Errorf("%d turns were written", got)
			}
			s.verify()
			idle.stop()
			if err := idle.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}
