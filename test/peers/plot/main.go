// Command plot FILE.json PICTURE draws what scripts/bench-turns.sh --json has written: turns
// a second of all peers, as bars. The picture's kind is its name's ending, .svg or .png.
package main

import (
	"encoding/json"
	"fmt"
	"image/color"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// measured is a window of a cell.
type measured struct {
	Clients int     `json:"clients"`
	Extra   float64 `json:"sync_extra_ms"`
	Side    string  `json:"side"`
	Turns   float64 `json:"turns_per_second"`
}

// group is what stands side by side.
type group struct {
	clients int
	extra   float64
}

// colours are told apart by people who do not see red and green (Okabe and Ito).
var colours = []color.RGBA{
	{0, 114, 178, 255}, {86, 180, 233, 255}, {230, 159, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {120, 120, 120, 255},
}

func main() {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("usage: plot FILE.json PICTURE"))
	}
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		fail(err)
	}
	var file struct {
		Cells []measured `json:"cells"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		fail(fmt.Errorf("%s: %w", os.Args[1], err))
	}
	if len(file.Cells) == 0 {
		fail(fmt.Errorf("%s has no measurements", os.Args[1]))
	}
	if err := draw(file.Cells, os.Args[2]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "plot:", err)
	os.Exit(1)
}

func draw(cells []measured, picture string) error {
	var groups []group
	var sides []string
	seen := map[group]map[string][]float64{}
	for _, c := range cells {
		g := group{c.Clients, c.Extra}
		if seen[g] == nil {
			groups, seen[g] = append(groups, g), map[string][]float64{}
		}
		if !slices.Contains(sides, c.Side) {
			sides = append(sides, c.Side)
		}
		seen[g][c.Side] = append(seen[g][c.Side], c.Turns)
	}
	slices.SortStableFunc(groups, func(a, b group) int { return int(a.extra*1000) - int(b.extra*1000) })
	var names []string
	for _, g := range groups {
		name := fmt.Sprintf("%d clients", g.clients)
		if g.extra > 0 {
			name += fmt.Sprintf("\nsync +%g ms", g.extra)
		}
		names = append(names, name)
	}
	p := plot.New()
	p.Y.Label.Text = "durable turns a second"
	p.Y.Min = 0
	p.Legend.Top = true
	p.Legend.Padding = vg.Points(2)
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5
	const width = 10
	for n, side := range sides {
		var values plotter.Values
		for _, g := range groups {
			values = append(values, median(seen[g][side]))
		}
		bars, err := plotter.NewBarChart(values, vg.Points(width))
		if err != nil {
			return err
		}
		bars.Color, bars.LineStyle.Width = colours[n%len(colours)], 0
		bars.Offset = vg.Points(width * (float64(n) - float64(len(sides)-1)/2))
		p.Add(bars)
		p.Legend.Add(side, bars)
	}
	p.Y.Max *= 1.45 // room for the legend
	return p.Save(vg.Points(float64(len(groups)*(len(sides)+2)*width+80)), 260, picture)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)/2]
}
