package fleet_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/zkdev"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// turnsIn are the numbers of the turns that were written, in the order of the writes.
func turnsIn(done []deed) (numbers []int) {
	for _, d := range done {
		var n int
		if _, err := fmt.Sscanf(string(d.bytes), "#turn %d ", &n); err == nil && !d.failed {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// One agent's volume is slow. Who comes behind it fills the gap, in order, so that a reader
// never meets one; and the slow one writes its own turns all the same, in full.
func TestRun_whoComesNextFillsTheGapAndTheOwnerWritesItAllTheSame(t *testing.T) {
	t.Parallel()
	s := begun(t)
	slowFS, quickFS := newFaultFS(), newFaultFS()
	let := slowFS.hang("write")
	defer let()
	slow := &script{name: "slow", count: 3, more: true}
	s.patient = true
	a := s.start(s.on(slowFS, slow))
	s.until("three turns are committed", func() bool { n, _ := slow.at(); return n == 3 })
	size := int64(len(s.read()))

	quick := &script{name: "quick", count: 2}
	if err := s.run(s.on(quickFS, quick)); err != nil {
		t.Fatal(err)
	}
	end := size
	writes := quickFS.log("write")
	for _, d := range writes {
		if d.at != end {
			t.Errorf("it writes at %d, and the file ends at %d", d.at, end)
		}
		end = d.at + int64(len(d.bytes))
	}
	if got := turnsIn(writes); !slices.Equal(got, []int{2, 3, 4, 5, 6}) {
		t.Errorf("it wrote the turns %d", got)
	}
	if _, acked := slow.at(); acked != 0 {
		t.Errorf("%d of the slow one's are acknowledged before it wrote", acked)
	}
	let()
	if err := a.wait(); err != nil {
		t.Error(err)
	}
	if got := turnsIn(slowFS.log("write")); !slices.Equal(got, []int{2, 3, 4}) {
		t.Errorf("the slow one wrote the turns %d itself, want its own", got)
	}
	s.verify()
	s.wantOnce(&script{name: "before", count: 1}, slow, quick)
}

// Whoever deletes the node of a turn has written the turn itself, and synced it through
// the descriptor that it wrote it with.
func TestRun_aNodeIsDeletedOnlyByWhoWroteAndSyncedTheTurn(t *testing.T) {
	t.Parallel()
	server := own(t)
	s := newSite(t, server.Addr())
	var mu sync.Mutex
	volumes := map[int64]*faultFS{}
	deleted := 0
	server.SetHook(func(at zkdev.Point, r zkdev.Request) zkdev.Action {
		if at != zkdev.BeforeEffect || r.Op != zkdev.OpMulti && r.Op != zkdev.OpDelete {
			return zkdev.Proceed
		}
		mu.Lock()
		defer mu.Unlock()
		for i, node := range r.Paths {
			if !strings.Contains(node, "/turns/") || strings.HasSuffix(node, "-0") {
				continue
			}
			if i == 2 && isCommit(r.Paths) {
				continue
			}
			deleted++
			mark := "#turn " + node[strings.LastIndexByte(node, '-')+1:] + " "
			if !slices.ContainsFunc(volumes[r.Session].covered(), func(text string) bool { return strings.HasPrefix(text, mark) }) {
				t.Errorf("%s is deleted by who has not written and synced it", node)
			}
		}
		return zkdev.Proceed
	})
	var sources []*script
	var group sync.WaitGroup
	for i := range 3 {
		fs := newFaultFS()
		source := &script{name: fmt.Sprint("agent ", i), count: 30, more: true}
		opts := s.on(fs, source)
		opts.Dial = dialFor(s.zk, func(sess fleet.Session) {
			mu.Lock()
			defer mu.Unlock()
			volumes[sess.ID()] = fs
		})
		sources = append(sources, source)
		group.Go(func() {
			if err := s.run(opts); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if deleted < 90 {
		t.Errorf("%d nodes were deleted", deleted)
	}
	server.SetHook(nil)
	s.verify()
	s.wantOnce(sources...)
}

// Another file stands in the file's place when the sync ends: what was synced is not what
// the path names, so nothing is acknowledged before it is written there too.
func TestRun_whatWasSyncedInAnotherFileIsWrittenAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	s.turns("before", 2)
	older := s.read()
	fs := newFaultFS()
	let := fs.hang("datasync")
	defer let()
	source := &script{name: "mine", count: 1}
	source.acking = func(int) {
		if text := string(s.read()); !strings.Contains(text, "mine 0") {
			t.Error("it is acknowledged, and not in the file that the path names")
		}
	}
	agent := s.start(s.on(fs, source))
	s.until("the turn is written", func() bool { return fs.begun("datasync") == 1 })
	if err := os.Rename(s.path, s.path+".old"); err != nil {
		t.Fatal(err)
	}
	s.put(older)
	let()
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
	s.verify()
	s.wantOnce(&script{name: "before", count: 2}, source)
}

// A sync that failed may have left pages that are clean and on no disk: all that was
// written since the last good one is written again, through a new descriptor (row 11).
func TestRun_aFailedSyncHasAllWrittenAgainThroughANewDescriptor(t *testing.T) {
	t.Parallel()
	for name, failures := range map[string]int{"once": 1, "three times": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begun(t)
			fs, sess := newFaultFS(), s.onlooker()
			source := &script{name: "mine", count: 6, more: true}
			four, told := make(chan struct{}), make(chan struct{})
			failed := 0 // one sync is under way at a time
			fs.set(func(d deed) (int, error) {
				if d.op != "datasync" || failed == failures {
					return 0, nil
				}
				if failed++; failed == 2 {
					<-told
				}
				<-four
				return 0, syscall.EIO
			})
			source.acking = func(n int) {
				if len(fs.covered()) == 0 {
					t.Errorf("record %d is acknowledged before a sync was good", n)
				}
			}
			opts := s.on(fs, source)
			opts.Name = "me"
			agent := s.start(opts)
			s.until("six turns are written", func() bool { return len(turnsIn(fs.log("write"))) == 6 })
			close(four)
			if failures > 1 {
				s.until("it says that it is held up", func() bool { return strings.Contains(s.held(sess, "me"), "input/output error") })
				close(told)
			}
			if err := agent.wait(); err != nil {
				t.Error(err)
			}
			for i, writes := range fs.byDescriptor() {
				if got := turnsIn(writes); i <= failures && !slices.Equal(got, []int{2, 3, 4, 5, 6, 7}) {
					t.Errorf("through descriptor %d the turns %d were written, want all", i+1, got)
				}
			}
			if n := len(fs.byDescriptor()); n != failures+1 {
				t.Errorf("turns were written through %d descriptors", n)
			}
			s.verify()
			s.wantOnce(&script{name: "before", count: 1}, source)
		})
	}
}

// byDescriptor are the writes, by the descriptors that have any, in the order of opening.
func (f *faultFS) byDescriptor() (writes [][]deed) {
	last := 0
	for _, d := range f.log("write") {
		if d.handle != last {
			writes = append(writes, nil)
			last = d.handle
		}
		writes[len(writes)-1] = append(writes[len(writes)-1], d)
	}
	return writes
}
