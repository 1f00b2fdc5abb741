package volume

import (
	"fmt"
	"slices"
	"time"
)

// Result is what one check came to.
type Result string

const (
	OK      Result = "ok"
	Warning Result = "warning" // agents run; somebody should know
	Failed  Result = "failed"  // agents must not run here
)

// Finding is one check's result and its reason.
type Finding struct {
	Check  string `json:"check"`
	Result Result `json:"result"`
	Text   string `json:"text"`           // what was found
	Next   string `json:"next,omitempty"` // what to do about it; empty when all is well
}

func ok(format string, args ...any) Finding {
	return Finding{Result: OK, Text: fmt.Sprintf(format, args...)}
}

func warning(text, next string) Finding { return Finding{Result: Warning, Text: text, Next: next} }

func failed(text, next string) Finding { return Finding{Result: Failed, Text: text, Next: next} }

// Verdicts.
const (
	Fit      = "fit"
	Warnings = "fit, with warnings"
	Unfit    = "unfit"
)

// Report is the verdict and its reasons.
type Report struct {
	Directory  string    `json:"directory"`
	FileSystem string    `json:"file_system"`
	Mode       Mode      `json:"mode,omitempty"` // missing when the volume is refused
	Verdict    string    `json:"verdict"`
	Findings   []Finding `json:"findings"`
	Sync       *Timing   `json:"sync,omitempty"` // missing when it could not be measured
}

func (r *Report) add(f Finding) {
	r.Findings = append(r.Findings, f)
	switch {
	case len(r.With(Failed)) > 0:
		r.Verdict = Unfit
	case len(r.With(Warning)) > 0:
		r.Verdict = Warnings
	default:
		r.Verdict = Fit
	}
}

// With names the checks that came to result.
func (r Report) With(result Result) (checks []string) {
	for _, f := range r.Findings {
		if f.Result == result {
			checks = append(checks, f.Check)
		}
	}
	return checks
}

// Timing is what a write of 4 KiB cost at the end of a file, without and with the
// fdatasync after it.
type Timing struct {
	Writes int        `json:"writes"`
	Plain  Percentile `json:"write"`
	Synced Percentile `json:"write_fdatasync"`
}

// Percentile is a distribution's middle and its slow end, in microseconds.
type Percentile struct {
	Median float64 `json:"median_us"`
	P99    float64 `json:"p99_us"`
}

func percentile(all []time.Duration) Percentile {
	sorted := slices.Sorted(slices.Values(all))
	at := func(q float64) float64 {
		return float64(sorted[int(q*float64(len(sorted)-1)+0.5)]) / float64(time.Microsecond)
	}
	return Percentile{Median: at(0.5), P99: at(0.99)}
}

// size is a number of bytes for people.
func size(n uint64) string {
	for _, unit := range []struct {
		name  string
		bytes uint64
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if n >= unit.bytes {
			return fmt.Sprintf("%.3g %s", float64(n)/float64(unit.bytes), unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// brief is a duration for people.
func brief(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(100 * time.Nanosecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	default:
		return d.Round(time.Millisecond).String()
	}
}
