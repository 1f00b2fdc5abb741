package history

import (
	"fmt"
	"testing"
)

func BenchmarkCheck(b *testing.B) {
	for _, c := range []struct {
		agents, appends int
		deaf            float64
	}{{3, 9, 0.05}, {5, 20_000, 0.01}, {5, 20_000, 0}, {5, 50_000, 0.01}} {
		f := newFleet(1, c.deaf)
		f.run(c.agents, c.appends)
		file := fileOf(f.turns...)
		b.Run(fmt.Sprintf("agents=%d/appends=%d/unknown=%v", c.agents, c.appends, c.deaf), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Check(file, f.appends, patience); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
