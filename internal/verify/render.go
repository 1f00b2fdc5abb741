package verify

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// mostShown is how many findings a person is shown.
const mostShown = 10

const (
	red   = "\x1b[31m"
	green = "\x1b[32m"
	plain = "\x1b[0m"
)

// Write gives the report as a short verdict for a person.
func (r Report) Write(w io.Writer, color bool) error {
	paint := func(text, with string) string {
		if !color {
			return text
		}
		return with + text + plain
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", r.File, r.summary())
	r.writeAgents(&b)
	for _, f := range r.Findings[:min(len(r.Findings), mostShown)] {
		fmt.Fprintf(&b, "%s %s\n", paint(fmt.Sprintf("%-11s", f.Kind), red), f.said())
	}
	if more := r.FaultCount - mostShown; more > 0 {
		fmt.Fprintf(&b, "… and %d more\n", more)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "%-11s %s\n", n.Kind, n.said())
	}
	if r.OK() {
		b.WriteString(paint("fine", green))
		if !r.Headed && !r.asked {
			b.WriteString(" by itself. Whether committed turns are missing at its end only ZooKeeper knows: give --zookeeper and --fleet")
		}
		b.WriteByte('\n')
	} else {
		b.WriteString(paint(count(r.FaultCount, "fault"), red) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// summary is the report's first line, after the file's name.
func (r Report) summary() string {
	parts := []string{"no turns"}
	if r.Turns > 0 {
		parts = []string{
			fmt.Sprintf("%s (%d to %d)", count(r.Turns, "turn"), r.First, r.Last),
			count(r.Records, "record"),
			count(r.Judged, "byte"),
		}
	}
	if n := len(r.Incarnations); n > 1 {
		parts = append(parts, count(n, "incarnation"))
	}
	switch {
	case r.Headed:
		parts = append(parts, "compared with head")
	case r.asked:
		parts = append(parts, "ZooKeeper has no head")
	default:
		parts = append(parts, "not compared with head")
	}
	if r.Acknowledged > 0 {
		parts = append(parts, fmt.Sprintf("%d acknowledged and found", r.Acknowledged))
	}
	return strings.Join(parts, ", ")
}

func (r Report) writeAgents(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, a := range r.Agents {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", a.Agent, count(a.Turns, "turn"), count(a.Records, "record"))
	}
	table.Flush()
}

// said is where a finding is and what it means.
func (f Finding) said() string {
	var where []string
	if f.Log != "" {
		where = append(where, f.Log)
	}
	if f.Line > 0 {
		where = append(where, fmt.Sprintf("line %d", f.Line))
	}
	if f.Offset > 0 || f.Log == "" {
		where = append(where, fmt.Sprintf("byte %d", f.Offset))
	}
	return strings.Join(where, ", ") + ": " + f.Text
}
