package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// table is rows of texts, the first its head.
type table [][]string

func (t table) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range t {
		fmt.Fprintln(w, strings.Join(row, "\t")+"\t")
	}
	w.Flush()
}

func (t table) markdown(out io.Writer) {
	for n, row := range t {
		fmt.Fprintf(out, "| %s |\n", strings.Join(row, " | "))
		if n == 0 {
			fmt.Fprintf(out, "|%s\n", strings.Repeat("---|", len(row)))
		}
	}
}

// row is a window as JSON.
type row struct {
	Clients int     `json:"clients"`
	Extra   float64 `json:"sync_extra_ms"`
	Side    string  `json:"side"`
	Round   int     `json:"round"`
	measured
}

// report prints a table of medians, and writes what else is asked for.
func report(o options, r results, about []string) error {
	rows, all, first := o.table(r)
	if o.json != "" {
		if err := writeJSON(o.json, about, all); err != nil {
			return err
		}
	}
	rows.print(os.Stdout)
	fmt.Printf("%s\n%s\n", first, strings.Join(about, "\n"))
	if o.docs == "" {
		return nil
	}
	var text bytes.Buffer
	fmt.Fprint(&text, "![Durable turns a second of all peers](turns.svg)\n\n")
	rows.markdown(&text)
	fmt.Fprintf(&text, "\n%s\n\nMedians of %d rounds of %v each.\n\n- %s\n", first, o.rounds, o.window, strings.Join(about, "\n- "))
	return intoDocs(o.docs, "bench-turns", text.String())
}

// table is the medians of all cells, all windows, and who is first.
func (o options) table(r results) (rows table, all []row, first string) {
	rows = table{{"clients", "sync", "peer", "turns/s", "to " + o.sides[0].name, "client µs", "server µs", "wait ms p50", "p99", "a sync ms"}}
	var behind []string
	for _, clients := range o.clients {
		for _, sync := range o.syncs {
			base, most, best := medians(r.cells[cell{clients, sync, o.sides[0].name}]), 0.0, ""
			for _, s := range o.sides {
				at := cell{clients, sync, s.name}
				for n, m := range r.cells[at] {
					all = append(all, row{clients, float64(sync) / 1e6, s.name, n + 1, m})
				}
				line := []string{fmt.Sprint(clients), fmt.Sprintf("+%v", sync), s.name}
				if len(r.cells[at]) == 0 {
					rows = append(rows, append(line, "failed", "", "", "", "", "", ""))
					continue
				}
				m := medians(r.cells[at])
				if m.Turns > most {
					most, best = m.Turns, s.name
				}
				rows = append(rows, append(line, fmt.Sprintf("%.0f", m.Turns), ratio(m.Turns, base.Turns), fmt.Sprintf("%.0f", m.Client),
					fmt.Sprintf("%.0f", m.Server), fmt.Sprintf("%.2f", m.P50), fmt.Sprintf("%.2f", m.P99), fmt.Sprintf("%.2f", m.Sync)))
			}
			if best != "" && !strings.HasPrefix(best, "turnstile") {
				behind = append(behind, fmt.Sprintf("%d clients, sync +%v (first: %s)", clients, sync, best))
			}
		}
	}
	first = "Turnstile has the most turns a second in each of these cells."
	if len(behind) > 0 {
		first = "Turnstile does not have the most turns a second with " + strings.Join(behind, "; ") + "."
	}
	if len(r.failed) > 0 {
		first += fmt.Sprintf(" %d cells were not measured in all rounds.", len(r.failed))
	}
	return rows, all, first
}

// intoDocs puts text between the markers of a page.
func intoDocs(path, name, text string) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := fmt.Sprintf("<!-- %s: begin -->\n", name), fmt.Sprintf("<!-- %s: end -->", name)
	before, rest, found := strings.Cut(string(page), begin)
	_, after, ends := strings.Cut(rest, end)
	if !found || !ends {
		return fmt.Errorf("--docs %s: it lacks the lines %q and %q, between which the table goes", path, strings.TrimSpace(begin), end)
	}
	return os.WriteFile(path, []byte(before+begin+text+end+after), 0o644)
}

// median is that of an even number of values too: the mean of the two in the middle. The
// higher of the two would show two rounds at their best.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	slices.Sort(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// medians is the median of each figure; the waits and the syncs are all of them.
func medians(ms []measured) (out measured) {
	pick := func(of func(measured) float64) float64 {
		var values []float64
		for _, m := range ms {
			values = append(values, of(m))
		}
		return median(values)
	}
	for _, m := range ms {
		out.waits, out.syncs = append(out.waits, m.waits...), append(out.syncs, m.syncs...)
	}
	out.Turns = pick(func(m measured) float64 { return m.Turns })
	out.Client = pick(func(m measured) float64 { return m.Client })
	out.Server = pick(func(m measured) float64 { return m.Server })
	out.P50, out.P99, out.Sync = percentile(out.waits, 50), percentile(out.waits, 99), percentile(out.syncs, 50)
	return out
}

func percentile(values []float64, p int) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(len(values)-1, len(values)*p/100)]
}
