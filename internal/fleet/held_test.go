package fleet_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// ailments are what a volume may do to one host, and what the fleet is told of it.
var ailments = map[string]struct {
	op   string
	err  error // nil: it hangs
	told string
}{
	"a full disk":                  {"write", syscall.ENOSPC, "no space left"},
	"a write that fails":           {"write", syscall.EIO, "input/output error"},
	"a volume that is read-only":   {"write", syscall.EROFS, "read-only file system"},
	"a quota":                      {"write", syscall.EDQUOT, "quota exceeded"},
	"a stale handle":               {"stat", syscall.ESTALE, "stale"},
	"a sync that fails":            {"datasync", syscall.EIO, "input/output error"},
	"a path that cannot be looked": {"lstat", syscall.EACCES, "permission denied"},
	"a write that hangs":           {"write", nil, "does not return"},
	"a sync that hangs":            {"datasync", nil, "does not return"},
	"a measure that hangs":         {"stat", nil, "does not return"},
}

// One host's volume fails or hangs: its agent is held up, says so in the fleet, and goes on
// by itself; the others go on meanwhile. Nothing acknowledged is lost, nothing doubled
// (row 12).
func TestRun_aVolumeThatFailsHoldsUpItsOwnAgentAlone(t *testing.T) {
	t.Parallel()
	for name, ill := range ailments {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begun(t)
			fs, sess := newFaultFS(), s.onlooker()
			mend := fs.heal
			source := &script{name: "ill", count: 12, more: true, gate: make(chan struct{}), gated: 4}
			source.during = func(n int) {
				switch {
				case n == 2 && ill.err == nil:
					mend = fs.hang(ill.op)
				case n == 2:
					fs.fail(ill.op, ill.err)
				}
			}
			opts := s.on(fs, source)
			opts.Name, opts.Acks = "ill", ackLog(t, filepath.Join(s.dir, "ill.acks"))
			agent := s.start(opts)
			s.until("it says that it is held up", func() bool { return strings.Contains(s.held(sess, "ill"), ill.told) })
			committed, _ := source.at() // of four: the others come now
			close(source.gate)
			others := &script{name: "others", count: 20, more: true}
			opts = s.calm(others)
			opts.Acks = ackLog(t, filepath.Join(s.dir, "others.acks"))
			began := time.Now()
			if err := s.run(opts); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("the others needed %v for 20 turns", took)
			}
			if again, _ := source.at(); again != committed || committed > 4 {
				t.Errorf("it committed %d turns while it was held up, after %d", again-committed, committed)
			}
			mend()
			if err := agent.wait(); err != nil {
				t.Error(err)
			}
			report := s.verify(filepath.Join(s.dir, "ill.acks"), filepath.Join(s.dir, "others.acks"))
			if report.Acknowledged != 32 {
				t.Errorf("%d records were acknowledged", report.Acknowledged)
			}
			s.wantOnce(&script{name: "before", count: 1}, source, others)
		})
	}
}

// All hosts' volumes are full: the fleet stops at its agents' bounds, and goes on by itself.
func TestRun_aVolumeThatIsFullForAllStopsTheFleet(t *testing.T) {
	t.Parallel()
	s := begun(t)
	before, sess := s.read(), s.onlooker()
	var volumes []*faultFS
	var sources []*script
	var agents []*outing
	for i := range 3 {
		fs := newFaultFS()
		fs.fail("write", syscall.ENOSPC)
		source := &script{name: fmt.Sprint("agent ", i), count: 20, more: true}
		opts := s.on(fs, source)
		opts.Name = fmt.Sprint("full-", i)
		volumes, sources, agents = append(volumes, fs), append(sources, source), append(agents, s.start(opts))
	}
	for i := range agents {
		s.until("it is held up", func() bool { return s.held(sess, fmt.Sprint("full-", i)) != "" })
	}
	for i, source := range sources {
		if n, acked := source.at(); n > 8 || acked > 0 {
			t.Errorf("%d has %d turns under way, and %d acknowledged", i, n, acked)
		}
	}
	if string(s.read()) != string(before) {
		t.Error("the file was changed")
	}
	for _, fs := range volumes {
		fs.heal()
	}
	for _, agent := range agents {
		if err := agent.wait(); err != nil {
			t.Error(err)
		}
	}
	s.verify()
	s.wantOnce(append(sources, &script{name: "before", count: 1})...)
}

// A write that was cut short is written again in full, whatever of it arrived.
func TestRun_aShortWriteIsWrittenAgain(t *testing.T) {
	t.Parallel()
	for _, short := range []int{0, 1, 40, 1 << 20} { // the last: all of it, and an error
		t.Run(fmt.Sprint(short), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, zktest.Shared(t))
			fs := newFaultFS()
			fs.failNth("write", 3, short, syscall.EIO)
			source := &script{name: "mine", count: 4}
			if err := s.run(s.on(fs, source)); err != nil {
				t.Fatal(err)
			}
			s.verify()
			s.wantOnce(source)
		})
	}
}

// The volume fails at each operation on the first file: it heals by itself, and the file's
// name is on disk before anything is acknowledged.
func TestRun_aVolumeThatFailsAtTheBeginning(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"open", "syncdir", "read", "write", "datasync", "stat"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, zktest.Shared(t))
			fs := newFaultFS()
			fs.failNth(op, 1, 5, syscall.EIO)
			source := &script{name: "mine", count: 2}
			source.acking = func(int) {
				done := fs.log("syncdir")
				if len(done) == 0 || done[len(done)-1].failed {
					t.Error("it is acknowledged, and the file's name is not on disk")
				}
			}
			agent := s.start(s.on(fs, source))
			if err := agent.wait(); err != nil {
				t.Error(err)
			}
			if op != "read" && !agent.says("held up") && fs.begun(op) < 2 {
				t.Error("nothing failed")
			}
			s.verify()
			s.wantOnce(source)
		})
	}
}

// What an agent's entry looks like: others, and people, read it.
func TestRun_theAgentsEntry(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	fs, sess := newFaultFS(), s.onlooker()
	fs.fail("write", syscall.ENOSPC)
	source := &script{name: "mine", count: 1}
	opts := s.on(fs, source)
	opts.Name = "me"
	agent := s.start(opts)
	s.until("it says that it is held up", func() bool { return s.held(sess, "me") != "" })
	node, err := sess.Get(t.Context(), s.root.Agents()+"/me")
	if err != nil {
		t.Fatal(err)
	}
	var entry map[string]any
	if err := json.Unmarshal(node.Data, &entry); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"agent", "host", "boot_id", "since", "life", "run", "held", "held_since"} {
		if text, _ := entry[field].(string); text == "" {
			t.Errorf("%s is missing in %s", field, node.Data)
		}
	}
	if at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(entry["held_since"])); err != nil || time.Since(at) > time.Minute {
		t.Errorf("held since %v", entry["held_since"])
	}
	fs.heal()
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
}

// Who was held up tells the fleet that it is no longer.
func TestRun_whoIsMendedSaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	fs, sess := newFaultFS(), s.onlooker()
	source := &script{name: "mine", count: 12, more: true}
	source.during = func(n int) {
		if n == 1 {
			fs.fail("write", syscall.ENOSPC)
		}
	}
	var once sync.Once
	source.before = func(n int) {
		if n > 2 {
			once.Do(func() {
				s.until("its entry says that it is well", func() bool { return s.held(sess, "me") == "" })
			})
		}
	}
	source.more = false
	opts := s.on(fs, source)
	opts.Name = "me"
	agent := s.start(opts)
	s.until("it says that it is held up", func() bool { return s.held(sess, "me") != "" })
	fs.heal()
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
	s.wantOnce(source)
}
