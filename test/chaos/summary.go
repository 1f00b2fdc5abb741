package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
)

// minimum is what a run must have done to count.
type minimum struct {
	faults int // of all kinds
	each   int // of each kind
	turns  int // acknowledged
}

// count is what became of a kind.
type count struct {
	Kind     string         `json:"kind"`
	Row      int            `json:"row"`
	Fired    int            `json:"fired"`
	Rounds   int            `json:"rounds"`
	Rejected int            `json:"rejected"`
	Turns    int            `json:"turns"`
	Acks     int            `json:"acknowledged"`
	Steps    map[string]int `json:"steps"`
}

// summary is a run in numbers.
type summary struct {
	Seed     uint64            `json:"seed"`
	Seconds  float64           `json:"seconds"`
	Faults   int               `json:"faults"`
	Rounds   int               `json:"rounds"`
	Rejected int               `json:"rejected"`
	Turns    int               `json:"turns"`
	Records  int               `json:"records"`
	Acks     int               `json:"acknowledged"`
	Missing  int               `json:"missing"`
	Doubled  int               `json:"doubled"`
	Kinds    []count           `json:"kinds"`
	Skipped  map[string]string `json:"skipped"`
	Wrong    []string          `json:"wrong"` // why the run does not count
	Results  []result          `json:"results"`
}

// sum adds up a run. A rejected round's faults and turns do not count.
func (c *campaign) sum(skipped map[string]string, least minimum, seconds float64) summary {
	s := summary{Seed: c.seed, Seconds: seconds, Skipped: skipped, Wrong: []string{}, Results: c.results}
	byKind := map[string]*count{}
	for _, k := range c.kinds {
		byKind[k.name] = &count{Kind: k.name, Row: k.row, Steps: map[string]int{}}
	}
	for _, r := range c.results {
		n := byKind[r.Kind]
		s.Missing += r.Missing
		s.Doubled += r.Doubled
		switch r.Verdict {
		case wasRejected:
			n.Rejected++
			s.Rejected++
			continue
		case failed:
			s.Wrong = append(s.Wrong, fmt.Sprintf("%s with seed %d: %s", r.Kind, r.Seed, r.Why))
		}
		n.Rounds++
		n.Fired += r.Fired
		n.Turns += r.Turns
		n.Acks += r.Acks
		for step, times := range r.Steps {
			n.Steps[step] += times
		}
		s.Rounds++
		s.Faults += r.Fired
		s.Turns += r.Turns
		s.Records += r.Records
		s.Acks += r.Acks
	}
	for _, k := range c.kinds {
		n := byKind[k.name]
		s.Kinds = append(s.Kinds, *n)
		if n.Fired < least.each {
			s.Wrong = append(s.Wrong, fmt.Sprintf("%s fired %d times, and should at least %d times", k.name, n.Fired, least.each))
		}
	}
	if s.Faults < least.faults {
		s.Wrong = append(s.Wrong, fmt.Sprintf("%d faults fired, and at least %d should", s.Faults, least.faults))
	}
	if s.Turns < least.turns {
		s.Wrong = append(s.Wrong, fmt.Sprintf("%d turns were acknowledged, and at least %d should", s.Turns, least.turns))
	}
	if c.tooManyRejected() {
		s.Wrong = append(s.Wrong, fmt.Sprintf("%d of %d rounds were rejected", s.Rejected, len(c.results)))
	}
	if s.Rounds == 0 {
		s.Wrong = append(s.Wrong, "no round was played to its end")
	}
	return s
}

func (s summary) print() {
	fmt.Printf("\n%-20s %4s %7s %7s %9s %8s %9s\n", "kind", "row", "faults", "rounds", "rejected", "turns", "acks")
	for _, n := range s.Kinds {
		fmt.Printf("%-20s %4d %7d %7d %9d %8d %9d\n", n.Kind, n.Row, n.Fired, n.Rounds, n.Rejected, n.Turns, n.Acks)
	}
	for _, kind := range slices.Sorted(maps.Keys(s.Skipped)) {
		fmt.Printf("%-20s skipped: %s\n", kind, s.Skipped[kind])
	}
	fmt.Printf("%-20s %4s %7d %7d %9d %8d %9d\n", "all", "", s.Faults, s.Rounds, s.Rejected, s.Turns, s.Acks)
	fmt.Printf("\n%d turns acknowledged, %d records in the files, %d acknowledged, %d missing, %d doubled; seed %d, %.0f s\n",
		s.Turns, s.Records, s.Acks, s.Missing, s.Doubled, s.Seed, s.Seconds)
	for _, why := range s.Wrong {
		fmt.Println("wrong:", why)
	}
	if len(s.Wrong) == 0 {
		fmt.Println("fine")
	}
}

func (s summary) write(path string) error {
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
