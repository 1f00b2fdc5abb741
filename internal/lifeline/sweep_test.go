package lifeline

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func listing(t testing.TB, d Dir) string {
	t.Helper()
	entries, err := os.ReadDir(string(d))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func keepNone() ([]string, error) { return nil, nil }

func TestSweepRemovesWhatNobodyHolds(t *testing.T) {
	d := newDir(t)
	hold(t, d, "live")
	for _, name := range []string{"dead", "listed", ".dead", "FOREIGN"} {
		if err := unix.Mkfifo(filepath.Join(string(d), name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(string(d), "regular"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("dead", filepath.Join(string(d), "link")); err != nil {
		t.Fatal(err)
	}
	// A live one with a stranger's bytes in it, one for each sweep.
	hold(t, d, "written")
	if err := os.WriteFile(filepath.Join(string(d), "written"), []byte("xxx"), 0); err != nil {
		t.Fatal(err)
	}
	before := listing(t, d)
	oops := errors.New("oops")
	if err := d.Sweep(func() ([]string, error) { return nil, oops }); !errors.Is(err, oops) || listing(t, d) != before {
		t.Errorf("when it cannot be known whom to keep: %v, there are %s", err, listing(t, d))
	}
	if err := d.Sweep(func() ([]string, error) { return []string{"listed.fe01.1b3", "other"}, nil }); err != nil {
		t.Error(err)
	}
	if got := listing(t, d); got != "FOREIGN link listed live regular written" {
		t.Errorf("left: %s", got)
	}
	if err := Dir(string(d) + "-none").Sweep(keepNone); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("sweep what is not there: %v", err)
	}
}

// Who dies while others ask whom to keep is not among those that they were told of.
func TestSweepFindsTheDeadBeforeItAsksWhomToKeep(t *testing.T) {
	d := newDir(t)
	hold(t, d, "early")()
	if err := unix.Mkfifo(filepath.Join(string(d), "early"), 0o644); err != nil {
		t.Fatal(err)
	}
	late := process(t, d, "late")
	err := d.Sweep(func() ([]string, error) { late.kill(); return nil, nil })
	if got := listing(t, d); got != "late" || err != nil {
		t.Errorf("left: %q, %v", got, err)
	}
	asked := false
	hold(t, d, "live")
	if err := d.Sweep(func() ([]string, error) { asked = true; return []string{"late"}, nil }); err != nil || !asked {
		t.Errorf("asked: %v, %v", asked, err)
	}
	asked = false
	if err := os.Remove(filepath.Join(string(d), "late")); err != nil {
		t.Fatal(err)
	}
	if err := d.Sweep(func() ([]string, error) { asked = true; return nil, nil }); err != nil || asked {
		t.Errorf("asked though there is none to remove: %v, %v", asked, err)
	}
}

// However a sweep and a beginning meet, what others can see is held.
func TestSweepNeverTakesALifelineThatBegins(t *testing.T) {
	d := newDir(t)
	hold(t, d, "live")
	done, swept := make(chan struct{}), make(chan error)
	for range 2 {
		go func() {
			var errs []error
			for {
				select {
				case <-done:
					swept <- errors.Join(errs...)
					return
				default:
					if err := d.Sweep(keepNone); err != nil {
						errs = append(errs, err)
					}
				}
			}
		}()
	}
	for n := range 1000 {
		name := fmt.Sprint("run-", n)
		_, release, err := d.Hold(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			break
		}
		let, err := d.letGo()
		if err != nil || slices.Contains(let, name) {
			t.Errorf("%s is not held: %v, %v", name, let, err)
		}
		if _, err := os.Lstat(filepath.Join(string(d), name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		release()
	}
	close(done)
	for range 2 {
		if err := <-swept; err != nil {
			t.Error(err)
		}
	}
}

// withoutFIFOs has the test's file system take no FIFOs.
func withoutFIFOs(t *testing.T) {
	was := mkfifo
	t.Cleanup(func() { mkfifo = was })
	mkfifo = func(string, uint32) error { return unix.EPERM }
}

// A plain marker stays while it is young, or its life is listed. What is no marker stays.
func TestSweepMarkersRemovesOldOnesOfNobody(t *testing.T) {
	d := newDir(t)
	withoutFIFOs(t)
	old := time.Now().Add(-markerAge - time.Minute)
	for _, name := range []string{"dead", "listed", "young", "written", ".half", "FOREIGN", "foreign.txt"} {
		life, _, err := d.Hold("made")
		if err != nil || life != "made" {
			t.Fatalf("%q, %v", life, err)
		}
		path := filepath.Join(string(d), name)
		if err := os.Rename(d.Path(life), path); err != nil {
			t.Fatal(err)
		}
		if name == "written" {
			if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if name != "young" {
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := unix.Mkfifo(filepath.Join(string(d), "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(string(d), "fifo"), old, old); err != nil {
		t.Fatal(err)
	}
	before := listing(t, d)
	oops := errors.New("oops")
	if err := d.SweepMarkers(func() ([]string, error) { return nil, oops }); !errors.Is(err, oops) || listing(t, d) != before {
		t.Errorf("when it cannot be known whom to keep: %v, there are %s", err, listing(t, d))
	}
	if err := d.Sweep(func() ([]string, error) { return []string{"fifo.1.2"}, nil }); err != nil || listing(t, d) != before {
		t.Errorf("Sweep, whose caller may not know all: %v, there are %s", err, listing(t, d))
	}
	if err := d.SweepMarkers(func() ([]string, error) { return []string{"listed", "other"}, nil }); err != nil {
		t.Error(err)
	}
	if got := listing(t, d); got != "FOREIGN fifo foreign.txt listed written young" {
		t.Errorf("left: %s", got)
	}
	if err := Dir(string(d) + "-none").SweepMarkers(keepNone); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("sweep what is not there: %v", err)
	}
}
