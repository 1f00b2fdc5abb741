package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/intake"
)

// takes asks for a turn's records, as one text.
func takes(t *testing.T, s fleet.Source) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, r := range s.Take(1) {
		texts = append(texts, string(r))
	}
	return strings.Join(texts, ",")
}

// filled waits until so many records are read.
func filled(t *testing.T, l *fleet.Lines, n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); l.Pending() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("only %d records are read", l.Pending())
		}
	}
}

func want(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Each record is given once, several turns may be under way, and acknowledgements are
// counted off in order.
func TestLines_severalTurnsUnderWay(t *testing.T) {
	lines := fleet.NewLines(strings.NewReader(numbered("r", 7)), 2, 1<<16)
	defer lines.Stop()
	for i, due := range []string{"r 1,r 2", "r 3,r 4", "r 5,r 6", "r 7"} {
		filled(t, lines, min(7, 2*i+4))
		want(t, takes(t, lines), due)
		if more := lines.More(); more != (i < 3) {
			t.Errorf("after turn %d there is more: %v", i+1, more)
		}
		lines.Committed()
	}
	if err := lines.Wait(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("it ends with %v", err)
	}
	for i, left := range []int{5, 3, 1, 0} {
		lines.Ack()
		if n := lines.Pending(); n != left {
			t.Errorf("after %d acknowledgements %d are pending, want %d", i+1, n, left)
		}
	}
}

// What was not committed is given again, first; what is under way is not.
func TestLines_backGivesTheLastTurnAgain(t *testing.T) {
	lines := fleet.NewLines(strings.NewReader(numbered("r", 5)), 2, 1<<16)
	defer lines.Stop()
	filled(t, lines, 4)
	want(t, takes(t, lines), "r 1,r 2")
	lines.Committed()
	filled(t, lines, 5)
	want(t, takes(t, lines), "r 3,r 4")
	lines.Back()
	if n := lines.Pending(); n != 5 {
		t.Errorf("%d are pending", n)
	}
	want(t, takes(t, lines), "r 3,r 4")
	lines.Ack() // of the turn before, meanwhile
	lines.Back()
	want(t, takes(t, lines), "r 3,r 4")
	lines.Committed()
	want(t, takes(t, lines), "r 5")
	lines.Committed()
	if lines.Ack(); lines.Pending() != 1 {
		t.Errorf("%d are pending", lines.Pending())
	}
}

// Take gives the same again when nothing was told in between.
func TestLines_takeTwiceIsTheSame(t *testing.T) {
	lines := fleet.NewLines(strings.NewReader(numbered("r", 3)), 2, 1<<16)
	defer lines.Stop()
	filled(t, lines, 3)
	want(t, takes(t, lines), "r 1,r 2")
	want(t, takes(t, lines), "r 1,r 2")
}

// The reader is held up while twice a turn's records wait; what is under way does not count.
func TestLines_readsAheadAndNoFurther(t *testing.T) {
	reader, writer := io.Pipe()
	lines := fleet.NewLines(reader, 2, 1<<16)
	defer reader.Close()
	defer lines.Stop()
	wrote := make(chan int, 100)
	go func() { // ends with the reader
		for i := range 100 {
			if _, err := fmt.Fprintf(writer, "r %d\n", i); err != nil {
				return
			}
			wrote <- i
		}
	}()
	filled(t, lines, 4)
	takes(t, lines)
	lines.Committed()
	filled(t, lines, 6)
	if n := lines.Pending(); n != 6 {
		t.Errorf("%d records are read, want 4 ahead of 2 under way", n)
	}
}

func TestTicker_countsTurnsThatAreCommitted(t *testing.T) {
	ticker := &fleet.Ticker{Agent: func() string { return "me" }, Lines: 1, Turns: 2}
	for range 3 {
		takes(t, ticker)
		ticker.Back() // the turn was lost: it does not count
	}
	if !ticker.More() {
		t.Error("two turns are to come, and there is no more after the first")
	}
	takes(t, ticker)
	ticker.Committed()
	takes(t, ticker)
	if ticker.More() {
		t.Error("there is more after the last")
	}
	ticker.Committed()
	if err := ticker.Wait(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("it ends with %v", err)
	}
	ticker.Ack()
	ticker.Ack()
}

// A paused source tells its source all the same what became of the turns under way.
func TestPausable_passesOnWhatBecameOfATurn(t *testing.T) {
	tuner := fleet.NewTuner(fleet.Tuning{MaxRecords: 2})
	lines := fleet.NewLines(strings.NewReader(numbered("r", 3)), 2, 1<<16)
	defer lines.Stop()
	source := fleet.Pausable(lines, tuner)
	filled(t, lines, 3)
	want(t, takes(t, source), "r 1,r 2")
	tuner.Set(fleet.Tuning{MaxRecords: 2, Paused: true})
	if source.More() {
		t.Error("there is more while it is paused")
	}
	source.Back()
	var texts []string
	for _, r := range source.Take(2) { // a place that was queued for is still used
		texts = append(texts, string(r))
	}
	want(t, strings.Join(texts, ","), "r 1,r 2")
	source.Committed()
	source.Ack()
	if n := lines.Pending(); n != 1 {
		t.Errorf("%d are pending", n)
	}
}

// TestLines_aGroupThatWasFoundCompleteStaysSo: an agent queues with it, and a line that comes late
// begins another. A turn of nothing would be no turn.
func TestLines_aGroupThatWasFoundCompleteStaysSo(t *testing.T) {
	reader, writer := io.Pipe()
	lines := fleet.Read(reader, fleet.LinesOptions{
		MaxRecords: 10, MaxBytes: 1 << 16, Together: time.Millisecond,
		Intake: intake.Options{Start: regexp.MustCompile("^r")},
	})
	defer reader.Close()
	defer lines.Stop()
	fmt.Fprint(writer, "r 1\n")
	if err := lines.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(writer, "  late\n")
	filled(t, lines, 2)
	var texts []string
	for _, r := range lines.Take(1) {
		texts = append(texts, string(r))
	}
	if len(texts) == 0 || texts[0] != "r 1" {
		t.Errorf("took %q", texts)
	}
}

// TestLines_linesThatBelongTogetherAreOneTurn, up to its limit.
func TestLines_linesThatBelongTogetherAreOneTurn(t *testing.T) {
	lines := fleet.Read(strings.NewReader("r 1\n a\n b\nr 2\n a\n b\n c\n d\nr 3\n"), fleet.LinesOptions{
		MaxRecords: 4, MaxBytes: 1 << 16, Together: time.Hour,
		Intake: intake.Options{Start: regexp.MustCompile("^r")},
	})
	defer lines.Stop()
	for _, due := range []string{"r 1, a, b", "r 2, a, b, c", " d,r 3"} {
		want(t, takes(t, lines), due)
		lines.Committed()
	}
	if _, cut := lines.Counts(); cut != 1 {
		t.Errorf("%d were cut, want 1", cut)
	}
}

// TestLines_leftIsWhatWasNotCommitted, as it was read, and apart from it what is in doubt.
func TestLines_leftIsWhatWasNotCommitted(t *testing.T) {
	text := "1\n2\r\n3\n4\n5\n6\n7\npar"
	for _, c := range []struct {
		doubt             int
		inDoubt, leftover string
	}{{0, "", "2\r\n3\n4\n5\n6\n7\npar"}, {-1, "2\r\n3\n", "4\n5\n6\n7\npar"}, {1, "2\r\n", "3\n4\n5\n6\n7\npar"}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		in, err := intake.Open(r)
		if err != nil {
			t.Fatal(err)
		}
		lines := fleet.Read(in, fleet.LinesOptions{MaxRecords: 2, MaxBytes: 1 << 16, Intake: intake.Options{Bad: intake.Escape}})
		fmt.Fprint(w, text)
		filled(t, lines, 4)
		want(t, takes(t, lines), "1,#escaped 2\\x0d")
		lines.First(1)
		filled(t, lines, 4)
		want(t, takes(t, lines), "#escaped 2\\x0d,3")
		lines.Stop()
		in.Stop()
		left, err := lines.Left(t.Context(), c.doubt)
		if err != nil || string(left.Doubt) != c.inDoubt || string(left.Text) != c.leftover {
			t.Errorf("doubt %d: %q, then %q, %v; want %q, then %q", c.doubt, left.Doubt, left.Text, err, c.inDoubt, c.leftover)
		}
		if left.Lines != intake.Count(left.Text) || left.DoubtLines != intake.Count(left.Doubt) {
			t.Errorf("counted %d and %d", left.Lines, left.DoubtLines)
		}
		in.Close()
		w.Close()
		r.Close()
	}
}
