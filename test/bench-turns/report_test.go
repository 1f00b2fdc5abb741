package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDocsAreRewrittenBetweenTheirMarkersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	page := "before\n<!-- a: begin -->\nold\n<!-- a: end -->\nbetween\n<!-- b: begin -->\nother\n<!-- b: end -->\n"
	if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it can be done again
		if err := intoDocs(path, "a", "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(page, "old", "new", 1); string(got) != want {
		t.Errorf("the page is\n%s\nand should be\n%s", got, want)
	}
	if err := intoDocs(path, "c", "new\n"); err == nil {
		t.Error("a page without markers is taken")
	}
}

// One round of 47 and one of 340 are not 340.
func TestMedian_ofTwoIsTheirMean(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{7}, 7}, {[]float64{340, 46}, 193}, {[]float64{9, 1, 2}, 2}} {
		if got := median(c.values); got != c.want {
			t.Errorf("of %v it is %v, want %v", c.values, got, c.want)
		}
	}
}

func TestAPeerThatThereIsNotIsNamed(t *testing.T) {
	if _, err := choose("kazoo,zookeeper"); err == nil || !strings.Contains(err.Error(), `"zookeeper"`) {
		t.Errorf("the error does not name what there is not: %v", err)
	}
	chosen, err := choose("etcd,turnstile-8")
	if err != nil || len(chosen) != 2 || chosen[0].name != "turnstile-8" {
		t.Errorf("two peers are chosen as %v, %v", chosen, err)
	}
}

func TestACellThatWasNotMeasuredIsInTheTable(t *testing.T) {
	o := options{clients: []int{3}, syncs: []time.Duration{0}, sides: sides[:2]}
	seen := results{cells: map[cell][]measured{{3, 0, "turnstile-8"}: {{Turns: 100}}}, failed: map[cell]error{{3, 0, "turnstile-1"}: os.ErrNotExist}}
	rows, _, _ := o.table(seen)
	if len(rows) != 3 || rows[1][3] != "100" || rows[2][3] != "failed" {
		t.Errorf("the table is %v", rows)
	}
}

func TestWhoIsFasterThanTurnstileIsNamed(t *testing.T) {
	o := options{clients: []int{3}, syncs: []time.Duration{0}, sides: sides[:3]}
	seen := results{cells: map[cell][]measured{
		{3, 0, "turnstile-8"}: {{Turns: 100}}, {3, 0, "turnstile-1"}: {{Turns: 90}}, {3, 0, "go-zookeeper"}: {{Turns: 110}},
	}}
	if _, _, first := o.table(seen); !strings.Contains(first, "go-zookeeper") {
		t.Errorf("go-zookeeper is the first, and it says %q", first)
	}
}
