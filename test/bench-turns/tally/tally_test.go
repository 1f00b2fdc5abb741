package tally_test

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/test/bench-turns/tally"
)

func TestReadyIsSaidOnceWhenEachClientHasHadATurn(t *testing.T) {
	var out bytes.Buffer
	c := tally.New(&out, 5, 2, "v1")
	c.Turn(5, time.Second)
	c.Turn(5, time.Second)
	if out.Len() > 0 {
		t.Fatalf("one of two had a turn, and it says %q", out.String())
	}
	c.Turn(6, time.Second)
	c.Turn(5, time.Second)
	if out.String() != "ready v1\n" {
		t.Fatalf("both had a turn, and it says %q", out.String())
	}
}

// orders is an input whose orders are given one by one, with what happens before each.
type orders []struct {
	before func()
	order  string
}

func (o *orders) Read(p []byte) (int, error) {
	if len(*o) == 0 {
		return 0, io.EOF
	}
	next := (*o)[0]
	*o = (*o)[1:]
	next.before()
	return copy(p, next.order+"\n"), nil
}

func TestTheClientsGoWhenTheyAreTold(t *testing.T) {
	var out bytes.Buffer
	c := tally.New(&out, 0, 0, "v1")
	c.Here()
	select {
	case <-c.Going():
		t.Fatal("they go before they are told")
	default:
	}
	if err := c.Obey(strings.NewReader("go\n")); err != nil {
		t.Fatal(err)
	}
	<-c.Going()
	if out.String() != "here\nready v1\n" {
		t.Errorf("it says %q", out.String())
	}
}

func TestOnlyWhatHappensBetweenBeginAndEndIsCounted(t *testing.T) {
	var out bytes.Buffer
	c := tally.New(&out, 0, 0, "")
	turn := func() { c.Turn(0, 7*time.Millisecond) }
	in := &orders{{turn, "begin"}, {turn, "end"}, {turn, "begin"}, {func() { turn(); turn() }, "end"}}
	if err := c.Obey(in); err != nil {
		t.Fatal(err)
	}
	var counts []int
	for line := range strings.Lines(out.String()) {
		var o tally.Outcome
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatal(err)
		}
		if len(o.Waits) != o.Turns || o.Waits[0] != 7 {
			t.Errorf("%d turns that waited 7 ms are told as %v", o.Turns, o.Waits)
		}
		counts = append(counts, o.Turns)
	}
	if len(counts) != 2 || counts[0] != 1 || counts[1] != 2 {
		t.Errorf("1 and then 2 turns are counted as %v", counts)
	}
}

func TestASyncTakesLongerByWhatIsOrdered(t *testing.T) {
	var out bytes.Buffer
	c := tally.New(&out, 0, 0, "")
	sync := func() {
		if err := c.Sync(func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	in := &orders{{func() {}, "sync 3000us"}, {func() {}, "begin"}, {sync, "end"}}
	if err := c.Obey(in); err != nil {
		t.Fatal(err)
	}
	var o tally.Outcome
	if err := json.Unmarshal(out.Bytes(), &o); err != nil || len(o.Syncs) != 1 || o.Syncs[0] < 3 {
		t.Errorf("a sync that takes 3 ms longer is told as %v (%v)", o.Syncs, err)
	}
}

func TestAnOrderThatNobodyKnowsEndsTheClient(t *testing.T) {
	if err := tally.New(io.Discard, 0, 0, "").Obey(strings.NewReader("dance\n")); err == nil {
		t.Error("it does not say that it does not know the order")
	}
}
