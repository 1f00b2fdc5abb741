package writer

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// keeps makes another open file keep the fence's flock until release.
func keeps(t testing.TB, v *volume) (release func()) {
	t.Helper()
	var fs FS = OS{}
	if v.mem != nil {
		fs = v.mem
	}
	h, err := fs.Open(v.path+".fence", os.O_RDWR)
	if err == nil {
		err = h.TryLock()
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { h.Close() }
}

func TestTwoOpenFilesExcludeOneAnother(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		release := keeps(t, v)
		f := v.open(t, "a")
		f.wait = 0
		unchanged(t, v, "a turn without the flock", func() {
			if _, err := f.Append(t.Context(), 9, *v.head, records("x")); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "admitted last: agent-1") {
				t.Errorf("got %v", err)
			}
			if _, err := f.Begin(t.Context(), 9); !errors.Is(err, ErrBusy) {
				t.Errorf("Begin: %v", err)
			}
			if err := f.Receipt(t.Context(), Appended{Head: *v.head, Header: frame.Header{Token: 2}}); !errors.Is(err, ErrBusy) {
				t.Errorf("Receipt: %v", err)
			}
		})
		release()
		v.commit(t, f, 9, "x")
		v.check(t)
	})
}

// In a bubble the time passes by itself.
func TestItWaitsComplainsAndGivesUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := memVolume().begun(t, 1)
		defer keeps(t, v)()
		core, said := observer.New(zap.WarnLevel)
		f, err := Open(Options{Path: v.path, Agent: "a", Wait: 10 * time.Second, FS: v.mem, Log: zap.New(core)})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		start := time.Now()
		unchanged(t, v, "a turn without the flock", func() {
			if _, err := f.Append(t.Context(), 9, *v.head, records("x")); !errors.Is(err, ErrBusy) {
				t.Errorf("got %v", err)
			}
		})
		if took := time.Since(start); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("gave up after %v", took)
		}
		warnings := said.All()
		if len(warnings) != 1 || !strings.Contains(fmt.Sprint(warnings[0].ContextMap()), "agent-1 on host") {
			t.Fatalf("warned %v", warnings)
		}
		if after := warnings[0].Time.Sub(start); after < 2*time.Second || after > 3*time.Second {
			t.Errorf("complained after %v", after)
		}
	})
}

func TestItGoesOnAsSoonAsTheFlockIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := memVolume().begun(t, 1)
		release := keeps(t, v)
		start := time.Now()
		time.AfterFunc(5*time.Second, release)
		f := v.open(t, "a")
		f.wait = time.Minute
		v.commit(t, f, 9, "x")
		v.check(t)
		if took := time.Since(start); took < 5*time.Second || took > 5100*time.Millisecond {
			t.Errorf("waited %v", took)
		}
	})
}

func TestALostTurnDoesNotWaitForTheFlock(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		defer keeps(t, v)()
		lost := errors.New("the turn was lost")
		f := v.open(t, "a")
		unchanged(t, v, "a lost turn", func() {
			if _, err := f.Append(ended(t, lost), 9, *v.head, records("x")); !errors.Is(err, lost) {
				t.Errorf("got %v, want the cause", err)
			}
		})
	})
}

func TestTheFlockIsGivenUpWhateverHappensInside(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		f := v.open(t, "a")
		if _, err := f.Append(t.Context(), 0, *v.head, records("x")); !errors.Is(err, ErrFenced) {
			t.Fatal(err)
		}
		wrong := *v.head
		wrong.Offset += 1000
		if _, err := f.Append(t.Context(), 9, wrong, records("x")); !errors.Is(err, ErrRefused) {
			t.Fatal(err)
		}
		keeps(t, v)() // fails unless it is free
	})
}

const childKeeps = "TURNSTILE_TEST_KEEP_FLOCK"

// TestMain is also the other process: one that keeps a flock until its stdin ends.
func TestMain(m *testing.M) {
	name := os.Getenv(childKeeps)
	if name == "" {
		os.Exit(m.Run())
	}
	h, err := OS{}.Open(name, os.O_RDWR)
	if err == nil {
		err = h.TryLock()
	}
	fmt.Println("locked", err)
	bufio.NewReader(os.Stdin).ReadString('\n')
}

func TestAnotherProcessKeepsUsOutUntilItIsKilled(t *testing.T) {
	v := realVolume(t).begun(t, 1)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), childKeeps+"="+v.path+".fence")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said, _ := bufio.NewReader(out).ReadString('\n')
	if said != "locked <nil>\n" {
		t.Fatalf("the child says %q", said)
	}
	f := v.open(t, "a")
	f.wait = 0
	if _, err := f.Append(t.Context(), 9, *v.head, records("x")); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait() // it was killed
	v.commit(t, f, 9, "x")
	v.check(t)
}
