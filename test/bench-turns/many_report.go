package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

const mb = 1e6

// report prints what was compared, and the table to size by.
func (o many) report(seen map[load][]measured, about []string) error {
	compared, once := o.loads()
	rows := table{{"agents", "peer", "turns/s", fmt.Sprintf("to its %d", o.few), "wait ms p50", "p99", "clients µs/turn", "servers µs/turn", "requests/turn", "log bytes/turn", "disk bytes/turn", "servers' memory MiB"}}
	for _, l := range compared {
		line := []string{fmt.Sprint(l.agents), l.side}
		if len(seen[l]) == 0 {
			rows = append(rows, append(line, "failed", "", "", "", "", "", "", "", "", ""))
			continue
		}
		m, few := total(seen[l]), total(seen[load{side: l.side, agents: o.few}])
		rows = append(rows, append(line, fmt.Sprintf("%.0f", m.Turns), ratio(m.Turns, few.Turns), fmt.Sprintf("%.1f", m.P50), fmt.Sprintf("%.1f", m.P99),
			fmt.Sprintf("%.0f", m.Client), fmt.Sprintf("%.0f", m.Server), fmt.Sprintf("%.1f", m.used.requests/m.count),
			fmt.Sprintf("%.0f", m.used.log/m.count), fmt.Sprintf("%.0f", m.used.written/m.count), fmt.Sprintf("%.0f", m.after.memory)))
	}
	sizes := table{{"agents", "one turn each", "bytes of a turn", "turns/s", "MB/s of turns", "MB/s written to disk", "of it log", "snapshots", "processors, servers", "processors, agents"}}
	if once != nil {
		few, many := load{side: "turnstile-8", agents: o.few}, load{side: "turnstile-8", agents: o.many}
		once = append([]load{few, many, few.rested(), many.rested()}, once...)
	}
	for _, l := range once {
		pace := "no rest"
		if l.pace > 0 {
			pace = l.pace.String()
		}
		size := l.bytes
		if size == 0 {
			size = shortTurn
		}
		line := []string{fmt.Sprint(l.agents), pace, fmt.Sprint(size)}
		if len(seen[l]) == 0 {
			sizes = append(sizes, append(line, "failed", "", "", "", "", "", ""))
			continue
		}
		m := total(seen[l])
		snapshots := "none"
		if m.used.snapshots > 0 {
			snapshots = fmt.Sprintf("%d of %.1f MB", m.used.snapshots, m.used.snapshot/float64(m.used.snapshots)/mb)
		}
		sizes = append(sizes, append(line, fmt.Sprintf("%.0f", m.Turns), fmt.Sprintf("%.2f", m.Turns*float64(size)/mb),
			fmt.Sprintf("%.2f", m.used.written/m.seconds/mb), fmt.Sprintf("%.2f", m.used.log/m.seconds/mb), snapshots,
			fmt.Sprintf("%.2f", m.used.processor/m.seconds), fmt.Sprintf("%.2f", m.Client*m.Turns/1e6)))
	}
	rule := strings.Join(o.rule(seen), "\n\n")
	rows.print(os.Stdout)
	if fmt.Println(); len(sizes) > 1 {
		sizes.print(os.Stdout)
	}
	fmt.Printf("\n%s\n\n%s\n", rule, strings.Join(about, "\n"))
	if o.json != "" {
		if err := writeJSON(o.json, about, flat(seen)); err != nil {
			return err
		}
	}
	if o.docs == "" {
		return nil
	}
	var text bytes.Buffer
	rows.markdown(&text)
	if fmt.Fprintln(&text); len(sizes) > 1 {
		sizes.markdown(&text)
	}
	fmt.Fprintf(&text, "\n%s\n\nThe first table: medians of %d rounds of %v each; the second: its first two rows from the same rounds, the others of one.\n\n- %s\n", rule, o.rounds, o.window, strings.Join(about, "\n- "))
	return intoDocs(o.docs, "bench-many", text.String())
}

// shortTurn is about how many bytes three short lines are.
const shortTurn = 190

// rule is what follows from the cells: what a turn costs by its size, and an agent by itself.
func (o many) rule(seen map[load][]measured) (lines []string) {
	few, many, big := load{side: "turnstile-8", agents: o.few}, load{side: "turnstile-8", agents: o.many}, load{side: "turnstile-8", agents: o.few, bytes: bigTurn}
	if len(seen[few]) > 0 && len(seen[many]) > 0 {
		a, b := total(seen[few]).Turns, total(seen[many]).Turns
		verdict := "the goal of 0.9 is reached"
		if b/a < 0.9 {
			verdict = "the goal of 0.9 is missed"
		}
		lines = append(lines, fmt.Sprintf("%d agents have %.2f of the turns a second of %d: %s.", o.many, b/a, o.few, verdict))
	}
	if len(seen[few]) > 0 && len(seen[big]) > 0 {
		s, l := total(seen[few]), total(seen[big])
		perByte := (l.used.written/l.count - s.used.written/s.count) / (bigTurn - shortTurn)
		lines = append(lines, fmt.Sprintf("The three servers together write %.0f bytes for a short turn and %.0f for one of 64 KiB (%.0f of it log): %.2f for each byte more.",
			s.used.written/s.count, l.used.written/l.count, l.used.log/l.count, perByte))
		cpu := (l.Server - s.Server) / ((bigTurn - shortTurn) / 1024.0)
		lines = append(lines, fmt.Sprintf("They use %.0f µs of a processor for a short turn, and %.1f µs for each KiB more.", s.Server, cpu))
	}
	if paced, idle := few.rested(), many.rested(); len(seen[paced]) > 0 && len(seen[idle]) > 0 {
		a, b := total(seen[paced]), total(seen[idle])
		each := (b.used.processor/b.seconds - a.used.processor/a.seconds) / float64(o.many-o.few)
		lines = append(lines, fmt.Sprintf("Of agents that rest between their turns, %d have %.0f turns a second and %d have %.0f: each agent more costs the servers %.3f %% of a processor, and they write %.2f MB/s instead of %.2f.",
			o.few, a.Turns, o.many, b.Turns, each*100, b.used.written/b.seconds/mb, a.used.written/a.seconds/mb))
	}
	return lines
}

// total is the medians of the rates, and the sum of what was used in all rounds.
func total(ms []measured) (out measured) {
	out = medians(ms)
	for _, m := range ms {
		out.count += m.count
		out.seconds += m.seconds
		out.after.memory = max(out.after.memory, m.after.memory)
		out.used.processor += m.used.processor
		out.used.written += m.used.written
		out.used.log += m.used.log
		out.used.requests += m.used.requests
		out.used.snapshots += m.used.snapshots
		out.used.snapshot += m.used.snapshot
	}
	return out
}

func ratio(a, b float64) string {
	if b == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", a/b)
}

// flat is a row for each window.
func flat(seen map[load][]measured) (rows []any) {
	for l, ms := range seen {
		for _, m := range ms {
			rows = append(rows, struct {
				Side      string  `json:"side"`
				Agents    int     `json:"agents"`
				Bytes     int     `json:"bytes"`
				Pace      float64 `json:"pace_s"`
				Log       float64 `json:"log_bytes_per_turn"`
				Written   float64 `json:"disk_bytes_per_turn"`
				Requests  float64 `json:"requests_per_turn"`
				Snapshots int     `json:"snapshots"`
				Snapshot  float64 `json:"snapshot_bytes"`
				Memory    float64 `json:"memory_mib"`
				measured
			}{l.side, l.agents, l.bytes, l.pace.Seconds(), m.used.log / m.count, m.used.written / m.count, m.used.requests / m.count,
				m.used.snapshots, m.used.snapshot, m.after.memory, m})
		}
	}
	return rows
}
