package main

import (
	"fmt"
	"slices"
	"time"
)

// sample is how long it took, each time.
type sample struct {
	times   []time.Duration
	issued  []time.Duration // the same, from the kill's command; nil when that is the kill
	healthy []time.Duration // from one commit to the next, without a kill
	missed  int             // kills of an agent that did not have the turn
}

func (s sample) at(part float64) time.Duration {
	sorted := slices.Sorted(slices.Values(s.times))
	return sorted[min(len(sorted)-1, int(part*float64(len(sorted))))]
}

func (s sample) median() time.Duration { return s.at(0.5) }

func (s sample) print(label, what string) {
	if len(s.times) == 0 {
		return
	}
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }
	fmt.Printf("%-24s %-28s %5d times  median %9s ms  p99 %9s ms  max %9s ms", label, what, len(s.times),
		ms(s.median()), ms(s.at(0.99)), ms(s.at(1)))
	if s.missed > 0 {
		fmt.Printf("  (%d more met no turn)", s.missed)
	}
	fmt.Println()
}
