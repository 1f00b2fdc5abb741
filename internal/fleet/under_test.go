package fleet_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// While a sync does not return, turns go on up to eight, and not one more.
func TestRun_upToEightTurnsAreUnderWay(t *testing.T) {
	t.Parallel()
	s := begun(t)
	fs, sess := newFaultFS(), s.onlooker()
	let := fs.hang("datasync")
	defer let()
	source := &script{name: "mine", count: 20, more: true}
	s.patient = true
	opts := s.on(fs, source)
	opts.Name, opts.Acks = "me", ackLog(t, filepath.Join(s.dir, "acks"))
	agent := s.start(opts)
	// The bound of the volume is far away when the eighth is committed, and long over when
	// it is told: a ninth would be there.
	s.until("it says that it is held up", func() bool { return s.held(sess, "me") != "" })
	if n, acked := source.at(); n != 8 || acked != 0 || len(s.nodes(sess)) != 8 {
		t.Errorf("%d committed, %d acknowledged, nodes %d; want 8 and none", n, acked, s.nodes(sess))
	}
	let()
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
	if n := source.mostUnder(); n != 8 {
		t.Errorf("%d turns were under way at once", n)
	}
	s.verify(filepath.Join(s.dir, "acks"))
	s.wantOnce(&script{name: "before", count: 1}, source)
	wantAcksInOrder(t, string(s.everything()[filepath.Join(s.dir, "acks")]), 20)
	if nodes := s.nodes(sess); len(nodes) > 0 {
		t.Errorf("turns %d have a node yet", nodes)
	}
}

func wantAcksInOrder(t *testing.T, log string, want int) {
	t.Helper()
	var turns []uint64
	for line := range strings.Lines(log) {
		if ack, err := frame.ParseAck([]byte(strings.TrimSuffix(line, "\n"))); err == nil {
			turns = append(turns, ack.Turn)
		}
	}
	if len(turns) != want || !slices.IsSorted(turns) {
		t.Errorf("acknowledged were the turns %d, want %d of them in order", turns, want)
	}
}

// Of turns of 64 KiB no more than 512 KiB are under way.
func TestRun_noMoreThanHalfAMegabyteIsUnderWay(t *testing.T) {
	t.Parallel()
	s := begun(t)
	fs, sess := newFaultFS(), s.onlooker()
	let := fs.hang("datasync")
	defer let()
	source := &script{name: "mine", count: 12, more: true, pad: frame.MaxRecord}
	s.patient = true
	opts := s.on(fs, source)
	opts.Name = "me"
	agent := s.start(opts)
	s.until("it says that it is held up", func() bool { return s.held(sess, "me") != "" })
	if n, _ := source.at(); n != 7 { // eight have their header lines too
		t.Errorf("%d turns of 64 KiB are under way", n)
	}
	let()
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
	s.verify()
	s.wantOnce(&script{name: "before", count: 1}, source)
}

// One sync covers all that was written before it began; one that began before a write
// says nothing of it: what is acknowledged was written before a sync that was good.
func TestRun_acknowledgesOnlyWhatASyncCovers(t *testing.T) {
	t.Parallel()
	s := begun(t)
	fs := newFaultFS()
	source := &script{name: "mine", count: 40, more: true}
	source.acking = func(n int) {
		if covered := fs.covered(); !slices.ContainsFunc(covered, func(text string) bool { return strings.Contains(text, "\n"+source.record(n)+"\n") }) {
			t.Errorf("record %d is acknowledged, and no sync covers it", n)
		}
	}
	if err := s.run(s.on(fs, source)); err != nil {
		t.Fatal(err)
	}
	if syncs := len(fs.log("datasync")); syncs > 40 {
		t.Errorf("%d syncs", syncs)
	}
	s.verify()
	s.wantOnce(&script{name: "before", count: 1}, source)
}

// covered are the writes that a good sync of their own descriptor covers.
func (f *faultFS) covered() (texts []string) {
	open := map[int][]string{}
	began := map[int]int{}
	for _, d := range f.log("write", "datasync.begins", "datasync") {
		switch {
		case d.op == "write" && !d.failed:
			open[d.handle] = append(open[d.handle], string(d.bytes))
		case d.op == "datasync.begins":
			began[d.handle] = len(open[d.handle])
		case d.op == "datasync" && !d.failed:
			texts = append(texts, open[d.handle][:began[d.handle]]...)
		}
	}
	return texts
}

// Records of a turn that was lost are given again, those under way before it are not.
func TestRun_aLostTurnGivesItsRecordsBack(t *testing.T) {
	t.Parallel()
	s := begun(t)
	fs, sess := newFaultFS(), s.onlooker()
	let := fs.hang("datasync")
	defer let()
	source := &script{name: "mine", count: 6, more: true}
	source.during = func(n int) {
		if n == 3 { // three are under way
			s.evict(sess)
		}
	}
	source.lost = func(int) { let() }
	s.patient = true
	agent := s.start(s.on(fs, source))
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
	if !agent.says("the turn was lost before its commit") || source.mostUnder() < 3 {
		t.Errorf("no turn was lost, or only %d were under way", source.mostUnder())
	}
	if report := s.verify(); report.Last != 7 {
		t.Error(fmt.Sprint("the last turn is ", report.Last))
	}
	s.wantOnce(&script{name: "before", count: 1}, source)
}
