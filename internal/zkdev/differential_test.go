package zkdev

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var (
	historySeed  = flag.Uint64("zkdev.seed", 0, "the first history's seed; 0 draws one")
	historyCount = flag.Int("zkdev.histories", 25, "how many histories TestDifferential compares")
	historySteps = flag.Int("zkdev.steps", 100, "how many steps each history has")
)

// TestDifferential runs the same random histories on zkdev and on a real server
// and wants to see the same: results, errors, Stats, events and their order.
// Replay a difference with -zkdev.seed=N -zkdev.histories=1.
func TestDifferential(t *testing.T) {
	realAddr := realServer(t)
	// The real server looks for empty containers once a minute; neither is to
	// find one while a history runs.
	dev := RunT(t, func(c *Config) { c.ContainerCheckInterval = time.Hour })
	seed := *historySeed
	if seed == 0 {
		seed = rand.Uint64()>>1 | 1
	}
	t.Logf("%d histories of %d steps from -zkdev.seed=%d", *historyCount, *historySteps, seed)
	began := time.Now()
	for i := range *historyCount {
		compareHistory(t, dev.Addr(), realAddr, seed+uint64(i))
		if (i+1)%1000 == 0 {
			t.Logf("%d histories after %v", i+1, time.Since(began).Round(time.Second))
		}
	}
	if left := dev.Stats(); left.Sessions > 0 || left.Watches > 0 || left.Ephemerals > 0 {
		t.Errorf("left behind: %+v", left)
	}
}

func compareHistory(t *testing.T, devAddr, realAddr string, seed uint64) {
	t.Helper()
	top := fmt.Sprintf("/h%d-%d", seed, time.Now().UnixNano())
	seen := make(chan []string, 1)
	go func() {
		defer close(seen) // also if the history fails the test
		seen <- runHistory(t, realAddr, top, seed, *historySteps)
	}()
	dev := runHistory(t, devAddr, top, seed, *historySteps)
	real, ok := <-seen
	if !ok {
		t.Fatalf("seed %d: the real server's history failed", seed)
	}
	for i := range max(len(dev), len(real)) {
		if i < len(dev) && i < len(real) && dev[i] == real[i] {
			continue
		}
		same := dev[max(0, i-12):min(i, len(dev))]
		t.Fatalf("-zkdev.seed=%d differs at line %d of its trace; before it:\n  %s\nzkdev: %s\nreal:  %s",
			seed, i, strings.Join(same, "\n  "), lineAt(dev, i), lineAt(real, i))
	}
}

func lineAt(trace []string, i int) string {
	if i < len(trace) {
		return trace[i]
	}
	return "(nothing)"
}
