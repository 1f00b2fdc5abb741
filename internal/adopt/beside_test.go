package adopt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
)

// atOnce does something at a step, once.
func atOnce(t *testing.T, step string, do func()) {
	done := false
	atStep = func(s string) {
		if s == step && !done {
			done = true
			do()
		}
	}
	t.Cleanup(func() {
		atStep = func(string) {}
		if !done {
			t.Errorf("never at step %s", step)
		}
	})
}

func TestRun_onSMBAlone(t *testing.T) {
	f := newFleet(t)
	f.commit("1")
	f.written(1, 1)
	agent := f.root.Agents() + "/agent-1"
	f.node(agent, nil)
	f.refused("agent-1", alone)
	f.delete(agent)
	atOnce(t, "verified", func() { f.node(agent, nil) })
	f.refused("agent-1", alone)
	f.adopt()
	f.delete(agent)
	f.adopt(alone)
}

// A fleet goes on while its file is adopted: some of what it commits is written, some is not.
func TestRun_besideARunningFleet(t *testing.T) {
	for _, step := range []string{"listed", "copied", "filled", "line", "synced", "verified"} {
		t.Run(step, func(t *testing.T) {
			f := newFleet(t)
			f.commit("1", "2")
			f.written(1, 2)
			f.commit("3", "4")
			atOnce(t, step, func() {
				f.written(3, 4)
				f.commit("5", "6", "7")
				f.written(5, 6)
				f.put(string(f.turns[6].Bytes[:50]))
			})
			if f.adopt(); f.records() != "1 2 3 4 5 6 7" || f.names() != "data.txt data.txt.was" {
				t.Errorf("%s; %s", f.records(), f.names())
			}
		})
	}
}

func TestRun_twoAtTheSameTime(t *testing.T) {
	for _, step := range []string{"copied", "verified"} {
		f := newFleet(t)
		f.commit("1")
		f.written(1, 1)
		f.head.Queue = 3 // it is kept
		f.node(f.root.Head(), f.head.Encode())
		t.Run(step, func(t *testing.T) {
			atOnce(t, step, func() {
				other := *f
				other.adopt()
			})
			_, err := Run(f.ctx, f.options())
			if err == nil || !strings.Contains(err.Error(), "same time") {
				t.Errorf("%v", err)
			}
		})
		if head := f.wantGood(); f.records() != "1" || f.names() != "data.txt data.txt.was" || head.Queue != 3 {
			t.Errorf("%s; %s; queue %d", f.records(), f.names(), head.Queue)
		}
	}
}

// Who is evicted, or has lost the session, while it holds the turn publishes nothing.
func TestRun_evictedWhileItHolds(t *testing.T) {
	f := newFleet(t)
	f.commit("1")
	f.written(1, 1)
	before := f.state()
	atOnce(t, "saved", func() {
		places, err := filelock.Look(f.ctx, f.sess, f.root)
		f.must(err)
		f.must(filelock.Evict(f.ctx, f.sess, f.root, places[0].Place))
	})
	if _, err := Run(f.ctx, f.options()); !errors.Is(err, filelock.ErrLost) || f.state() != before {
		t.Errorf("%v; it is %s", err, f.state())
	}
}

// The file is replaced after it was copied.
func TestRun_fileThatIsReplacedMeanwhile(t *testing.T) {
	f := newFleet(t)
	f.commit("1")
	f.written(1, 1)
	atOnce(t, "turn", func() {
		f.must(os.WriteFile(f.path+"~", []byte("another"), 0o644))
		f.must(os.Rename(f.path+"~", f.path))
	})
	if _, err := Run(f.ctx, f.options()); err == nil || !strings.Contains(err.Error(), "replaced") || f.names() != "data.txt" {
		t.Errorf("%v; %s", err, f.names())
	}
}

// What a bad volume does to the copy is seen before anybody knows of it.
func TestRun_copyThatIsNotAsItWasMade(t *testing.T) {
	f := newFleet(t)
	f.commit("1", "2")
	f.written(1, 2)
	before := f.state()
	atOnce(t, "synced", func() {
		names, err := filepath.Glob(f.path + ".next-*")
		f.must(err)
		text := []byte(f.content(names[0]))
		text[len(f.text(1, 1))+8] ^= 1
		f.must(os.WriteFile(names[0], text, 0o644))
	})
	if _, err := Run(f.ctx, f.options()); err == nil || !strings.Contains(err.Error(), "not as it was made") || f.state() != before {
		t.Errorf("%v; it is %s", err, f.state())
	}
}

// deaf is a session that does not get the answer to what changes head.
type deaf struct {
	filelock.Session
	head string
	lost bool // an answer was lost
	sent bool // the request gets there all the same
	then bool // nothing gets through afterwards
}

var errDeaf = errors.New("no answer")

func (d *deaf) Multi(ctx context.Context, ops ...any) ([]zk.MultiResponse, error) {
	if d.lost && d.then {
		return nil, errDeaf
	}
	for _, op := range ops {
		set, ok := op.(*zk.SetDataRequest)
		if !ok || set.Path != d.head || d.lost {
			continue
		}
		d.lost = true
		if d.sent {
			if _, err := d.Session.Multi(ctx, ops...); err != nil {
				return nil, err
			}
		}
		return nil, errDeaf
	}
	return d.Session.Multi(ctx, ops...)
}

func (d *deaf) Delete(ctx context.Context, path string) error {
	if d.lost && d.then {
		return errDeaf
	}
	return d.Session.Delete(ctx, path)
}

func TestRun_outcomeThatIsUnknown(t *testing.T) {
	run := func(f *fleet, d *deaf) (Result, error) {
		f.commit("1")
		f.written(1, 1)
		d.Session, d.head = f.dial(), f.root.Head()
		return Run(f.ctx, f.options(func(o *Options) { o.Sess = d }))
	}
	t.Run("it happened", func(t *testing.T) {
		f := newFleet(t)
		if _, err := run(f, &deaf{sent: true}); err != nil {
			t.Fatal(err)
		}
		f.wantGood()
	})
	t.Run("it did not", func(t *testing.T) {
		f := newFleet(t)
		if _, err := run(f, &deaf{}); !errors.Is(err, filelock.ErrLost) || f.names() != "data.txt" {
			t.Errorf("%v; %s", err, f.names())
		}
	})
	t.Run("nobody can tell", func(t *testing.T) {
		f := newFleet(t)
		_, err := run(f, &deaf{sent: true, then: true})
		if !errors.Is(err, filelock.ErrUnknown) || f.names() != "data.txt data.txt.next" {
			t.Fatalf("%v; %s", err, f.names())
		}
		places, err := filelock.Look(f.ctx, f.sess, f.root)
		f.must(err)
		for _, p := range places { // its session is over, and will go
			f.must(filelock.Evict(f.ctx, f.sess, f.root, p.Place))
		}
		if r := f.adopt(); !r.Finished || f.records() != "1" || f.names() != "data.txt data.txt.was" {
			t.Errorf("%v; %s", r, f.names())
		}
	})
}
