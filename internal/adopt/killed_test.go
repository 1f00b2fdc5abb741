package adopt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// killedAt adopts in a process of its own that is killed at a step. It gives the step's
// name, "" when the process got to its end before.
func (f *fleet) killedAt(step string) string {
	f.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s %s", killEnv, f.addr, f.root, f.path, step))
	said, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return strings.TrimSpace(string(said))
	}
	if err != nil {
		f.t.Fatalf("step %s: %v: %s", step, err, said)
	}
	return ""
}

// killedEverywhere makes a fleet, kills an adoption at its first step, types it again; with
// another fleet at the second, and so on.
func killedEverywhere(t *testing.T, make func(testing.TB) *fleet, check func(*testing.T, *fleet)) {
	const most = 40
	for step := 1; step <= most; step++ {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			t.Parallel()
			f := make(t)
			at := f.killedAt(fmt.Sprint(step))
			t.Logf("killed at %q", at)
			if at == "" && step < 10 || at != "" && step == most {
				t.Fatal("the steps are not as the test expects")
			}
			if !f.complete() {
				f.adopt()
			}
			f.wantGood()
			check(t, f)
		})
	}
}

// complete tells whether an adoption has nothing left to do.
func (f *fleet) complete() bool {
	f.t.Helper()
	head, _, err := filelock.FreshHead(f.ctx, f.sess, f.root)
	if err != nil || head.Agent != agentName {
		return false
	}
	turns, err := filelock.ListTurns(f.ctx, f.sess, f.root)
	f.must(err)
	nodes, err := f.sess.Children(f.ctx, string(f.root))
	f.must(err)
	_, missing := os.Stat(f.path + ".next-" + head.Incarnation.String())
	return len(turns) == 0 && os.IsNotExist(missing) && !slices.Contains(nodes, "queue")
}

// Turn 3 was written and its node deleted; somebody wrote where 4 belongs; 5 is in ZooKeeper
// alone; another incarnation has left more nodes than one request deletes.
func TestRun_killedAtAnyStep(t *testing.T) {
	lost := uuid.New()
	killedEverywhere(t, func(t testing.TB) *fleet {
		f := newFleet(t)
		f.commit("1", "2", "3", "4", "5")
		f.written(1, 3)
		f.put("oops\n")
		for n := range batch + 1 {
			f.node(f.root.Turn(lost, uint64(n+1)), fmt.Appendf(nil, "lost %d", n+1))
		}
		return f
	}, func(t *testing.T, f *fleet) {
		if f.records() != "1 2 3 4 5" {
			t.Errorf("%s", f.records())
		}
		if was := f.only("was"); was != f.text(1, 3)+"oops\n" {
			t.Errorf("was %q", was)
		}
		head := f.wantGood()
		if got := f.content(f.path + ".foreign-" + head.Incarnation.String()); got != "oops\n" {
			t.Errorf("foreign %q", got)
		}
		text := f.content(f.path + ".lost-" + head.Incarnation.String())
		if strings.Count(text, "# ") != batch+1 || strings.Count(text, "\nlost 7\n") != 1 {
			t.Errorf("lost %q", text)
		}
		// One that came to nothing may leave what it had: it is named, and nothing else.
		for _, kind := range []string{"lost", "foreign", "next"} {
			names, err := filepath.Glob(f.path + "." + kind + "-*")
			f.must(err)
			if len(names) > 2 {
				t.Errorf("%v", names)
			}
		}
	})
}

func fixture(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../cmd/agent/testdata/first-edition", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

// firstEdition is what the first edition left: its own code wrote the files.
func firstEdition(t testing.TB) *fleet {
	t.Helper()
	f := newFleet(t)
	f.put(fixture(t, "data.txt") + "\n")
	f.must(os.WriteFile(f.path+".fence", []byte(fixture(t, "data.txt.fence")+"\n"), 0o644))
	f.node(f.root.Head(), []byte(fixture(t, "head.json")))
	f.node(string(f.root)+"/queue", nil)
	f.node(string(f.root)+"/halt", []byte(`{"why":"a test"}`))
	return f
}

func (f *fleet) wantCarriedOver() {
	f.t.Helper()
	head := f.wantGood()
	old := fixture(f.t, "data.txt") + "\n"
	if text := f.content(f.path); !strings.HasPrefix(text, old+"#turnstile 1 ") || head.Turn != 6 || head.Line != int64(len(old)) {
		f.t.Errorf("%q", text)
	}
	if was := f.only("was"); was != old {
		f.t.Errorf("was %q", was)
	}
	if _, err := os.Stat(f.path + ".was-" + head.Incarnation.String() + ".fence"); err != nil {
		f.t.Error(err)
	}
	if _, err := os.Stat(f.path + ".fence"); !os.IsNotExist(err) {
		f.t.Error("the fence stays")
	}
	names, err := f.sess.Children(f.ctx, string(f.root))
	f.must(err)
	for _, name := range names {
		if name == "queue" || name == "halt" {
			f.t.Errorf("%s stays", name)
		}
	}
}

func TestRun_firstEditionKilledAtAnyStep(t *testing.T) {
	killedEverywhere(t, firstEdition, func(_ *testing.T, f *fleet) { f.wantCarriedOver() })
}

func TestRun_firstEdition(t *testing.T) {
	t.Run("its agents must have stopped", func(t *testing.T) {
		f := firstEdition(t)
		for _, node := range []string{f.root.Agents() + "/alpha", string(f.root) + "/queue/" + strings.Repeat("a", 32) + "-0000000001"} {
			f.node(node, nil)
			f.refused("must have stopped")
			f.delete(node)
		}
		f.adopt()
		f.wantCarriedOver()
	})
	t.Run("turns are missing", func(t *testing.T) {
		f := firstEdition(t)
		f.must(os.Truncate(f.path, 878))
		f.refused("ZooKeeper knows that turn 6")
		f.delete(f.root.Head())
		f.refused("the fence knows that turn 6")
		if head := f.adopt(acceptLoss).Head; head.Turn != 5 {
			t.Errorf("turn %d", head.Turn)
		}
	})
	t.Run("an uncommitted turn", func(t *testing.T) {
		f := firstEdition(t)
		head, ok := firstHead([]byte(fixture(t, "head.json")))
		if !ok {
			t.Fatal("its head cannot be read")
		}
		seven := head.Next(frame.Header{Agent: "beta", Token: head.Token + 1, At: f.head.At}, uuid.New(), [][]byte{[]byte("seven")})
		f.put(string(seven.Bytes))
		if r := f.adopt(); r.Head.Turn != 7 || len(r.Notes) != 2 || !strings.Contains(r.Notes[0], "turns 7 to 7") {
			t.Errorf("turn %d: %v", r.Head.Turn, r.Notes)
		}
	})
	t.Run("an unfinished turn", func(t *testing.T) {
		f := firstEdition(t)
		f.put("#turn 7 beta lines=1 by")
		if r := f.adopt(); r.Head.Turn != 6 || f.only("foreign") != "#turn 7 beta lines=1 by" {
			t.Errorf("%v", r)
		}
	})
}

// killedWhen is a fleet with one turn whose adoption was killed at a step of that name.
func killedWhen(t testing.TB, at string) *fleet {
	t.Helper()
	f := newFleet(t)
	f.commit("1")
	f.written(1, 1)
	if f.killedAt(at) != at {
		t.Fatalf("there is no step %s", at)
	}
	return f
}

// Somebody makes a file of the name before the copy has it.
func TestRun_finishReplacesNothing(t *testing.T) {
	t.Parallel()
	f := killedWhen(t, "step")
	f.put("somebody else's\n")
	f.refused("somebody made a new")
	f.must(os.Remove(f.path))
	r := f.adopt()
	if !r.Finished || r.Was == "" || f.records() != "1" || f.names() != "data.txt data.txt.was" {
		t.Errorf("%v; %s; %s", r, f.records(), f.names())
	}
}

func TestRun_finishWantsTheCopyOfHead(t *testing.T) {
	t.Parallel()
	f := killedWhen(t, "published")
	names, err := filepath.Glob(f.path + ".next-*")
	f.must(err)
	f.must(os.WriteFile(names[0], []byte("another file\n"), 0o644))
	f.refused("does not have the line of incarnation")
}

// A node that nobody has listed before head was published is saved before it is deleted.
func TestRun_finishSavesWhatHasNoPlace(t *testing.T) {
	t.Parallel()
	f := killedWhen(t, "published")
	f.node(f.root.Turn(uuid.New(), 1), []byte("late"))
	if r := f.adopt(); !r.Finished || len(r.Saved) != 1 || !strings.Contains(f.only("lost"), "\nlate\n") {
		t.Errorf("%v", r)
	}
}

// An adoption that had all but cleared away is no reason not to adopt a file that something
// else has written to since.
func TestRun_damageAfterAnUnfinishedOneIsSeen(t *testing.T) {
	t.Parallel()
	f := killedWhen(t, "done")
	f.node(f.root.Turn(uuid.New(), 1), []byte("left"))
	f.put("oops\n")
	if r := f.adopt(); r.Finished || f.only("foreign") != "oops\n" {
		t.Errorf("%v", r)
	}
}

// While it waits for its turn it can be told to stop.
func TestRun_interruptedWhileItWaits(t *testing.T) {
	f := newFleet(t)
	f.commit("1")
	f.written(1, 1)
	before := f.state()
	line := filelock.New(f.sess, f.root, filelock.Member{Agent: "b"}, nil, nil)
	place, err := line.Join(f.ctx)
	f.must(err)
	defer place.Leave()
	ctx, cancel := context.WithCancel(f.ctx)
	_, err = Run(ctx, f.options(func(o *Options) {
		o.Tell = func(what string, _, _ int64) {
			if strings.Contains(what, "waiting") {
				cancel()
			}
		}
	}))
	if err == nil || f.state() != before {
		t.Errorf("%v; it is %s", err, f.state())
	}
}
