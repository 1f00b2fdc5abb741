package sim

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	schedules = flag.Int("sim.schedules", 2000, "how many schedules to run that count")
	seed      = flag.Uint64("sim.seed", 0, "the seed of the first; 0: any")
	brief     = flag.Bool("sim.brief", false, "do not shorten a schedule that fails, nor tell its story")
	theme     = flag.String("sim.theme", "", "a fault, by its name, that every schedule may have")
	only      = flag.Bool("sim.story", false, "run the schedule of -sim.seed alone and tell its story")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *theme != "" {
		kind := slices.Index(faultNames[:], *theme)
		if kind < 0 {
			fmt.Fprintf(os.Stderr, "-sim.theme %q: want one of %s\n", *theme, strings.Join(faultNames[:], ", "))
			os.Exit(2)
		}
		always = 1 << kind
	}
	debug.SetGCPercent(400)
	if flag.Lookup("test.memprofile").Value.String() == "" {
		runtime.MemProfileRate = 0 // nobody will look at the samples
	}
	runtime.GOMAXPROCS(1) // one thread runs at a time anyway: this spares the hand over
	os.Exit(m.Run())
}

func TestSchedules(t *testing.T) {
	first := *seed
	if first == 0 {
		first = rand.Uint64() >> 16
	}
	if *only {
		told := &story{}
		out := play(t, newTape(first), first, told)
		fmt.Printf("%s%v\n", told, out.Err)
		return
	}
	t.Logf("first seed %d", first)
	var sum Counts
	began, shown := time.Now(), time.Now()
	for n := first; sum.Schedules-sum.Idle < *schedules; n++ {
		out := Run(t, n)
		sum.Add(out.Counts)
		if out.Err != nil && *brief {
			t.Fatalf("schedule %d of this run breaks a promise\n%v", sum.Schedules, out.Err)
		}
		if out.Err != nil {
			t.Fatalf("schedule %d of this run breaks a promise\n%s", sum.Schedules, Explain(t, out))
		}
		if time.Since(shown) > 10*time.Second {
			shown = time.Now()
			fmt.Fprintf(os.Stderr, "%d schedules, %.0f a minute\n", sum.Schedules-sum.Idle, float64(sum.Schedules-sum.Idle)/time.Since(began).Minutes())
		}
	}
	t.Logf("%d schedules in %v (and %d that do not count: no fault, or less than two turns)", sum.Schedules-sum.Idle, time.Since(began).Round(time.Millisecond), sum.Idle)
	t.Logf("%d steps, %d turns committed, %d acknowledged, %d agents restarted", sum.Steps, sum.Turns, sum.Acked, sum.Restarts)
	var kinds []string
	for kind, n := range sum.Faults {
		kinds = append(kinds, fmt.Sprintf("%v %d", Fault(kind), n))
		if n == 0 && *schedules >= 2000 && *theme == "" {
			t.Errorf("fault never fired: %v", Fault(kind))
		}
	}
	t.Log("faults: " + strings.Join(kinds, ", "))
}

func TestASeedGivesTheSameSchedule(t *testing.T) {
	for n := range uint64(1000) {
		a, b := &story{}, &story{}
		x, y := play(t, newTape(n), n, a), play(t, newTape(n), n, b)
		if !slices.Equal(x.tape, y.tape) || x.Counts != y.Counts || !slices.Equal(a.lines, b.lines) {
			t.Errorf("seed %d: %s", n, a.differs(b))
		}
	}
}

// differs tells where two stories part.
func (s *story) differs(other *story) string {
	for i, line := range s.lines {
		if i >= len(other.lines) || other.lines[i] != line {
			return fmt.Sprintf("%s\nand then not: %s", &story{lines: s.lines[max(0, i-8):i]}, line)
		}
	}
	return "the stories are the same as far as one goes"
}

func TestAPlayedTapeGivesTheSameSchedule(t *testing.T) {
	for n := range uint64(300) {
		a := Run(t, n)
		b := play(t, replay(a.tape), n, nil)
		if !slices.Equal(a.tape, b.tape) || a.Counts != b.Counts {
			t.Errorf("seed %d: %d decisions and %+v, then %d and %+v", n, len(a.tape), a.Counts, len(b.tape), b.Counts)
		}
	}
}
