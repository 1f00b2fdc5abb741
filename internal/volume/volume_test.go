package volume

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is also the other process.
func TestMain(m *testing.M) {
	switch {
	case slices.Equal(os.Args[1:], []string{"child"}):
		if err := Serve(context.Background(), os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
	case slices.Equal(os.Args[1:], []string{"broken"}):
		os.Stderr.WriteString("out of order")
		os.Exit(1)
	default:
		os.Exit(m.Run())
	}
}

func options(t testing.TB, child string) Options {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Options{Dir: t.TempDir(), Volume: Auto, For: 400 * time.Millisecond, Child: []string{self, child}}
}

func TestTheVolumeOfTheTestsIsNotUnfit(t *testing.T) {
	opts := options(t, "child")
	var begun, found []string
	opts.Begin = func(what string) { begun = append(begun, what) }
	opts.Found = func(f Finding) { found = append(found, f.Check) }
	r, err := Check(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	mustBeEmpty(t, opts.Dir)
	// How the disk of whoever runs this confirms, and how busy the machine is, is
	// not ours to say.
	for _, f := range r.Findings {
		if f.Result == Failed && f.Check != "file system" {
			t.Errorf("%+v", f)
		}
	}
	if len(r.Findings) != 5 || !slices.Equal(begun, found) || r.Sync == nil || r.Sync.Writes < leastWrites || r.Sync.Synced.Median < r.Sync.Plain.Median {
		t.Errorf("%+v; begun %q, found %q", r, begun, found)
	}
	text, err := json.Marshal(r)
	if err != nil || !bytes.Contains(text, []byte(`"verdict":"`+r.Verdict+`"`)) {
		t.Errorf("%s, %v", text, err)
	}
}

// Whenever it is stopped, nothing is left: no file, no process.
func TestStoppedItLeavesNothingBehind(t *testing.T) {
	for _, at := range []string{"file system", "files", "writes", "fdatasync", "fifo"} {
		t.Run(at, func(t *testing.T) {
			why := errors.New("told to stop")
			ctx, stop := context.WithCancelCause(t.Context())
			opts := options(t, "child")
			opts.For = time.Hour
			if at == "fdatasync" || at == "fifo" {
				opts.For = 40 * time.Millisecond
			}
			var pids []int
			c := &checker{Options: opts, disk: osDisk{}, mount: mountOf, now: time.Now, space: budget}
			c.spawn = func(ctx context.Context) (process, error) {
				p, err := startChild(ctx, opts.Child)
				if err == nil {
					pids = append(pids, p.(*child).cmd.Process.Pid)
				}
				return p, err
			}
			c.Begin = func(what string) {
				if what == at {
					stop(why)
				}
			}
			if _, err := c.check(ctx); !errors.Is(err, why) {
				t.Errorf("got %v, want the cause", err)
			}
			mustBeEmpty(t, opts.Dir)
			for _, pid := range pids {
				if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
					t.Errorf("process %d is still there: %v", pid, err)
				}
			}
		})
	}
}

// In the middle of its work, not between two checks.
func TestStoppedWhileProcessesWriteItLeavesNothingBehind(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	opts := options(t, "child")
	opts.For = time.Hour
	c := &checker{Options: opts, disk: osDisk{}, mount: mountOf, now: time.Now, space: budget}
	c.spawn = func(ctx context.Context) (process, error) {
		p, err := startChild(ctx, opts.Child)
		return stopper{p, stop}, err
	}
	if _, err := c.check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	mustBeEmpty(t, opts.Dir)
}

// stopper stops everything while processes write at once.
type stopper struct {
	process
	stop func()
}

func (s stopper) ask(ctx context.Context, r request) (answer, error) {
	if r.Count > 1 {
		defer time.AfterFunc(10*time.Millisecond, s.stop).Stop()
	}
	return s.process.ask(ctx, r)
}

func TestAProcessThatDoesNotWorkSaysNothingOfTheVolume(t *testing.T) {
	for child, says := range map[string]string{"broken": "ended by itself"} {
		opts := options(t, child)
		r, err := Check(t.Context(), opts)
		if !errors.Is(err, errProcess) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "out of order") {
			t.Errorf("got %+v, %v", r, err)
		}
		mustBeEmpty(t, opts.Dir)
	}
	opts := options(t, "child")
	opts.Child = []string{opts.Dir + "/none"}
	if _, err := Check(t.Context(), opts); !errors.Is(err, errProcess) || !strings.Contains(err.Error(), "cannot be started") {
		t.Errorf("got %v", err)
	}
	mustBeEmpty(t, opts.Dir)
}

func TestADirectoryThatCannotBeUsedIsToldWithTheNextStep(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]error{
		t.TempDir() + "/none": os.ErrNotExist, file: syscall.ENOTDIR, file + "/below": syscall.ENOTDIR,
		"/sys": os.ErrPermission, "/proc": os.ErrNotExist,
	} {
		_, err := Check(t.Context(), Options{Dir: dir, Volume: Auto, For: time.Second})
		var unusable *UnusableError
		if !errors.As(err, &unusable) || !errors.Is(err, want) || unusable.Next == "" || !strings.HasPrefix(err.Error(), dir+": ") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestCheck_anUnknownSetting(t *testing.T) {
	opts := options(t, "child")
	opts.Volume = "nfs"
	if r, err := Check(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "plain, direct or sync") {
		t.Errorf("%+v, %v", r, err)
	}
}

// A child whose parent is gone does not go on, whatever it was asked for.
func TestServeEndsWithItsInput(t *testing.T) {
	in, ask := io.Pipe()
	answers, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Serve(t.Context(), in, out) }()
	name := t.TempDir() + "/data"
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(ask).Encode(request{Do: "write", Name: name, Step: 0, Count: 1 << 60}); err != nil {
		t.Fatal(err)
	}
	ask.Close()
	go io.Copy(io.Discard, answers) //nolint:errcheck // ends with the pipe
	if err := <-ended; err != nil {
		t.Error(err)
	}
	out.Close()
}

func TestServeSaysWhatItWasNotAskedWell(t *testing.T) {
	w := newWorker(osDisk{})
	defer w.close()
	name := t.TempDir() + "/file"
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if a := w.do(t.Context(), request{Do: "dance", Name: name}); !strings.Contains(a.Error, "dance") {
		t.Errorf("%+v", a)
	}
	a := w.do(t.Context(), request{Do: "write", Name: name + "none"})
	if err := a.err(); !errors.Is(err, syscall.ENOENT) || !strings.Contains(err.Error(), "none") {
		t.Errorf("%+v, %v", a, err)
	}
}

// What is found out is what a SIGKILL leaves, not an orderly end.
func TestAProcessIsKilledNotAskedToEnd(t *testing.T) {
	p, err := startChild(t.Context(), options(t, "child").Child)
	if err != nil {
		t.Fatal(err)
	}
	p.kill()
	p.kill()
	if how := p.(*child).cmd.ProcessState.Sys().(syscall.WaitStatus); !how.Signaled() || how.Signal() != syscall.SIGKILL {
		t.Errorf("it ended as %v", how)
	}
}
