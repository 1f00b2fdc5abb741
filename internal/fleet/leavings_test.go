package fleet_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
)

// What others do to the directory costs no live agent its turn.
func TestRun_aLiveHolderWhoseLifelineWasTakenAway(t *testing.T) {
	t.Parallel()
	for name, meddle := range map[string]func(path string) error{
		"removed": os.Remove,
		"a file": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.WriteFile(path, nil, 0o644)
		},
		"a link": func(path string) error {
			if err := os.Rename(path, path+"-moved"); err != nil {
				return err
			}
			return os.Symlink(filepath.Base(path)+"-moved", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNursery(t)
			a := n.child("a")
			a.hear("turn")
			if err := meddle(filepath.Join(n.alive(), n.lives())); err != nil {
				t.Fatal(err)
			}
			b := n.child("b")
			n.queued("b")
			place, _ := n.place("a")
			a.write("one")
			a.hear("acknowledged")
			b.turn("two")
			if got := n.records(); strings.Join(got, " ") != "one two" {
				t.Errorf("the file holds %q, a's place was %s", got, place.Place)
			}
		})
	}
}

func TestRun_agentsThatEndLeaveNothingBehind(t *testing.T) {
	n := newNursery(t)
	fleetOf := func(agents int) {
		var group sync.WaitGroup
		for i := range agents {
			name := fmt.Sprint("a", i)
			opts, err := n.orders(name).options(&fleet.Ticker{Agent: func() string { return name }, Lines: 1, Turns: 20})
			if err != nil {
				t.Fatal(err)
			}
			group.Go(func() {
				if err := fleet.New(opts).Run(t.Context()); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		group.Wait()
	}
	fleetOf(1) // what the process has from here on, it keeps
	settled := func(before, goroutines int) bool {
		return descriptors(t) <= before && runtime.NumGoroutine() <= goroutines
	}
	var before, goroutines int
	n.until("the first has ended", func() bool {
		runtime.Gosched()
		stats := n.server.Stats()
		before, goroutines = descriptors(t), runtime.NumGoroutine()
		return stats.Connections == 1 && stats.Watches == 0
	})
	fleetOf(4)
	n.until("descriptors and goroutines are as before", func() bool { return settled(before, goroutines) })
	if got := n.lives(); got != "" {
		t.Errorf("left on the volume: %s", got)
	}
	if s := n.server.Stats(); s.Watches != 0 || s.Ephemerals != 0 {
		t.Errorf("left in ZooKeeper: %+v", s)
	}
	n.verify()
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
