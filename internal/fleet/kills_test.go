package fleet_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// killed runs a child until it has killed itself.
func (n *nursery) killed(o orders) {
	n.t.Helper()
	c := n.childWith(o)
	done := make(chan struct{})
	go func() { // ends with the child
		defer close(done)
		for range c.says {
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		n.t.Errorf("it never gets to %s", o.Die)
	}
	_ = c.cmd.Wait()
	if ws, _ := c.cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() {
		log, _ := os.ReadFile(filepath.Join(n.dir, c.name+".log"))
		n.t.Fatalf("it ended by itself: %v\n%s", c.cmd.ProcessState, log)
	}
}

// SIGKILL at each step of a turn, and of the beginning of a file: whoever comes next goes on
// without waiting for the session, nothing acknowledged is lost, nothing is doubled, and all
// that is committed is in the file (rows 1 and 3).
func TestRun_killedAtEachStep(t *testing.T) {
	t.Parallel()
	for _, step := range steps {
		for _, nth := range []int{1, 4} {
			if nth > 1 && (step[:4] == "begi" || step == "open.after") {
				continue // once in a file's life
			}
			t.Run(fmt.Sprint(step, " ", nth), func(t *testing.T) {
				t.Parallel()
				n := newNursery(t)
				o := n.orders("dead")
				o.Die, o.At, o.Acks = step, nth, filepath.Join(n.dir, "dead.acks")
				n.killed(o)
				sessions := n.server.Sessions()
				n.goesOn("next")
				n.goesOn("last")
				for _, id := range sessions { // the onlooker's and the dead's
					n.wantOpen(id)
				}
				var acks []string
				if _, err := os.Stat(o.Acks); err == nil {
					acks = append(acks, o.Acks)
				}
				report := n.judge(acks...)
				if !report.OK() {
					t.Errorf("%+v", report.Findings)
				}
				for _, note := range report.Notes {
					t.Error(note)
				}
				if log := n.everything()[o.Acks]; step == "acked" && nth == 4 && report.Acknowledged == 0 {
					t.Errorf("nothing was acknowledged before it died: %q", log)
				}
				n.wantFloods()
			})
		}
	}
}

// Stopped at a step for longer than its session lasts, an agent finds when it is continued
// that others went on. What it does then changes no byte that was in the file (row 2).
func TestRun_stoppedForLongerThanItsSession(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"commit.before", "commit.after", "write.before", "write.after", "sync.after", "drop.before"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			n := newNursery(t)
			o := n.orders("stopped")
			o.Die, o.At, o.Stop, o.Acks = step, 3, true, filepath.Join(n.dir, "acks")
			c := n.childWith(o)
			go func() { // ends with the child
				for range c.says {
				}
			}()
			var info unix.Siginfo
			if err := unix.Waitid(unix.P_PID, c.cmd.Process.Pid, &info, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
				t.Fatal(err)
			}
			for _, id := range n.server.Sessions() {
				if id != n.sess.ID() {
					n.server.ExpireSession(id)
				}
			}
			n.goesOn("next")
			before := n.read()
			sizes := len(n.records())
			c.resume()
			n.until("it goes on", func() bool { return len(n.records()) > sizes+10 })
			c.kill()
			n.goesOn("last")
			if after := n.read(); !bytes.HasPrefix(after, before) {
				t.Error("what was in the file has changed")
			}
			n.verify(o.Acks)
			n.wantFloods()
		})
	}
}

// wantFloods makes sure that the turns of each flood are in the file whole, in order and once.
func (s *site) wantFloods() {
	s.t.Helper()
	next := map[string][2]int{}
	for _, r := range s.records() {
		var name string
		var turn, record int
		if _, err := fmt.Sscanf(r, "%s turn %d record %d", &name, &turn, &record); err != nil {
			continue
		}
		due, known := next[name]
		if known && record == 0 {
			due = [2]int{due[0] + 1, 0}
		}
		if !known {
			due = [2]int{0, 0}
		}
		if due != [2]int{turn, record} {
			s.t.Fatalf("%s: record %d of turn %d where %d of %d was due", name, record, turn, due[1], due[0])
		}
		next[name] = [2]int{turn, record + 1}
	}
}
