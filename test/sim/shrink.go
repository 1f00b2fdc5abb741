package sim

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// shrink makes the decisions of a failed schedule fewer and more of them uneventful,
// while it still breaks the promise. (The idea is that of Hypothesis: MacIver and
// Donaldson, "Test-Case Reduction via Test-Case Generation", ECOOP 2020.)
func shrink(t *testing.T, failed Outcome) []uint16 {
	best := failed.tape
	fails := func(tape []uint16) bool {
		out := play(t, replay(tape), failed.Seed, nil)
		if out.Err == nil || kindOf(out.Err) != kindOf(failed.Err) {
			return false
		}
		best = trim(out.tape[:min(len(out.tape), len(tape))])
		return true
	}
	for improved := true; improved; {
		improved = false
		before := len(best) + eventfulOf(best)
		for size := len(best); size > 0; size /= 2 {
			for at := 0; at < len(best); {
				end := min(at+size, len(best))
				without := slices.Delete(slices.Clone(best), at, end)
				quiet := slices.Clone(best)
				clear(quiet[at:end])
				switch {
				case fails(without):
				case eventfulOf(best[at:end]) > 0 && fails(quiet):
					at = end
				default:
					at = end
				}
			}
		}
		improved = len(best)+eventfulOf(best) < before
	}
	return best
}

// kindOf is the error without the numbers in it.
func kindOf(err error) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, err.Error())
}

func eventfulOf(tape []uint16) (n int) {
	for _, x := range tape {
		if x != 0 {
			n++
		}
	}
	return n
}

// trim leaves out the uneventful end.
func trim(tape []uint16) []uint16 {
	for len(tape) > 0 && tape[len(tape)-1] == 0 {
		tape = tape[:len(tape)-1]
	}
	return tape
}

// story is what happened, line by line; nil is told nothing.
type story struct {
	mu    sync.Mutex
	lines []string
}

func (s *story) tell(format string, args ...any) {
	if s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lines = append(s.lines, fmt.Sprintf(format, args...))
	}
}

func (s *story) String() string {
	var b strings.Builder
	for i, line := range s.lines {
		fmt.Fprintf(&b, "%4d  %s\n", i+1, line)
	}
	return b.String()
}
