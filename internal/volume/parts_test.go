package volume

import (
	"errors"
	"os"
	"testing"
	"time"
)

func TestPercentiles(t *testing.T) {
	var all []time.Duration
	for i := range 101 {
		all = append(all, time.Duration(100-i)*time.Microsecond)
	}
	if got := percentile(all); got != (Percentile{50, 99}) {
		t.Errorf("%+v", got)
	}
	if got := percentile(all[:1]); got != (Percentile{100, 100}) {
		t.Errorf("of one: %+v", got)
	}
}

func TestMoveByLink(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(name, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := moveByLink("a", "b"); !errors.Is(err, os.ErrExist) {
		t.Errorf("over another: %v", err)
	}
	err := moveByLink("a", "c")
	b, _ := os.ReadFile("b")
	c, _ := os.ReadFile("c")
	if _, gone := os.Lstat("a"); err != nil || string(b) != "b" || string(c) != "a" || !errors.Is(gone, os.ErrNotExist) {
		t.Errorf("%v; b is %q, c is %q, a: %v", err, b, c, gone)
	}
}

func TestRangesFollowEachOtherAndDiffer(t *testing.T) {
	end, seen := int64(0), map[string]bool{}
	for n := range 1000 {
		content, offset := rangeOf(n)
		if offset != end || len(content) != rangeLen || seen[string(content)] {
			t.Fatalf("range %d is at %d, %q", n, offset, content)
		}
		end, seen[string(content)] = offset+rangeLen, true
	}
}
