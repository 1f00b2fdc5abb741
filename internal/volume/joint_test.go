package volume

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/meeting"
)

func TestTwoVolumesAreToldApart(t *testing.T) {
	all := machines(t)
	all[1].dir = t.TempDir()
	check(t, 100*time.Millisecond, all)
	for _, m := range all {
		if m.err != nil || m.got.Verdict != Unfit || m.got.SameVolume || len(m.got.Ways) > 0 ||
			!strings.Contains(m.got.Text, "two different volumes: ") || !strings.Contains(m.got.Text, "a on host does not see the file of b") || !strings.Contains(m.got.Text, "b on host does not see the file of a") {
			t.Errorf("%+v, %v", m.got, m.err)
		}
	}
}

// A file that a directory's cache hides for a while is waited for.
func TestANewFileThatIsSeenLate(t *testing.T) {
	all := machines(t)
	shared := all[0].dir
	hidden := t.TempDir()
	all[1].dir = hidden + "/mnt"
	if err := os.Mkdir(all[1].dir, 0o755); err != nil {
		t.Fatal(err)
	}
	shares := 0
	all[1].peers = func(p Peers) Peers {
		return exchanging{p, func() {
			if shares++; shares == 3 { // what it made is carried over, as a cache would in time
				for _, err := range []error{carry(all[1].dir, shared), os.Remove(all[1].dir), os.Symlink(shared, all[1].dir)} {
					if err != nil {
						t.Error(err)
					}
				}
			}
		}}
	}
	check(t, 30*time.Second, all)
	for _, m := range all {
		if m.err != nil || m.got.Verdict != Fit || !m.got.SameVolume {
			t.Errorf("%+v, %v", m.got, m.err)
		}
	}
	if shares < 10 {
		t.Errorf("%d steps", shares)
	}
}

// carry moves all check directories' files from one directory to another.
func carry(from, to string) error {
	dirs, err := os.ReadDir(from)
	for _, d := range dirs {
		files, listed := os.ReadDir(path.Join(from, d.Name()))
		err = errors.Join(err, listed)
		for _, f := range files {
			err = errors.Join(err, os.Rename(path.Join(from, d.Name(), f.Name()), path.Join(to, d.Name(), f.Name())))
		}
		err = errors.Join(err, os.Remove(path.Join(from, d.Name())))
	}
	return err
}

// exchanging is told before each step.
type exchanging struct {
	Peers
	before func()
}

func (e exchanging) Exchange(ctx context.Context, mine json.RawMessage) ([]json.RawMessage, error) {
	e.before()
	return e.Peers.Exchange(ctx, mine)
}

// One dies in the middle: the other says so, and nothing is left.
func TestOneDiesInTheMiddle(t *testing.T) {
	for _, at := range []int{1, 3, 20, 100} {
		all := machines(t)
		steps := 0
		all[1].peers = func(p Peers) Peers {
			return exchanging{p, func() {
				if steps++; steps == at {
					all[1].sess.Close()
				}
			}}
		}
		check(t, 30*time.Second, all)
		if !errors.Is(all[0].err, meeting.ErrGone) || !strings.Contains(all[0].err.Error(), "b on host died or gave up") && !strings.Contains(all[0].err.Error(), "a on host died or gave up") || all[0].got.Verdict != "" {
			t.Errorf("at step %d: %v", at, all[0].err)
		}
		if all[1].err == nil {
			t.Errorf("at step %d: the dead one has a verdict", at)
		}
	}
}

// The machine's own file system: what it says of O_DIRECT does not spoil the rest.
func TestTheVolumeOfTheTestsForTwo(t *testing.T) {
	all := machines(t)
	for _, m := range all {
		m.kernel = "one"
	}
	check(t, 30*time.Second, all)
	r := all[0].got
	if all[0].err != nil || r.Verdict != Fit || r.Setting != "plain" || r.way(t, "sync").Result != Right || !r.OneKernel || !strings.Contains(r.Text, "one kernel") {
		t.Errorf("%+v, %v", r, all[0].err)
	}
	if w := r.way(t, "direct"); w.Result != Right && w.Result != Refused {
		t.Errorf("%+v", w)
	}
}

// What one machine alone does not do well says nothing of the volume.
func TestNothingIsJudgedWhen(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(all []*machine)
		says  []string // by each machine, those of the meeting's order
	}{
		"settings differ": {func(all []*machine) { all[1].setting = "direct" }, []string{"give all the same --volume"}},
		"a volume is full": {func(all []*machine) {
			all[1].disk = &client{local: true, write: failing("plain", syscall.ENOSPC)}
		}, []string{"make room for 32 MB"}},
		"a directory is gone": {func(all []*machine) { all[1].dir += "/none" }, []string{"no such file or directory"}},
		"a process ended": {func(all []*machine) {
			all[1].spawned = func(p process) process { return &dying{process: p} }
		}, []string{"died or gave up", errProcess.Error()}},
	} {
		t.Run(name, func(t *testing.T) {
			all := machines(t)
			c.spoil(all)
			check(t, 30*time.Second, all)
			for i, m := range all {
				if says := c.says[min(i, len(c.says)-1)]; m.err == nil || !strings.Contains(m.err.Error(), says) || m.got.Verdict != "" {
					t.Errorf("%d: %+v, %v; want %s", i, m.got, m.err, says)
				}
			}
		})
	}
}

// dying is a process that ends in the middle.
type dying struct {
	process
	asked int
}

func (d *dying) ask(ctx context.Context, r request) (answer, error) {
	if d.asked++; d.asked > 20 {
		return answer{}, errProcess
	}
	return d.process.ask(ctx, r)
}

func TestUsable(t *testing.T) {
	dir := t.TempDir()
	if err := Usable(dir); err != nil {
		t.Error(err)
	}
	mustBeEmpty(t, dir)
	var unusable *UnusableError
	if err := Usable(dir + "/none"); !errors.As(err, &unusable) {
		t.Errorf("got %v", err)
	}
}
