package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestVerdictForPeople(t *testing.T) {
	h := ordinary(12)
	r := verifying(t, h.data, &h.head)
	r.File = "data.txt"
	want := `data.txt: 12 turns (1 to 12), 24 records, 2129 bytes, compared with head
  agent-1  4 turns  8 records
  agent-2  4 turns  8 records
  agent-3  4 turns  8 records
fine
`
	if got := strings.TrimPrefix(told(r), "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	data := slices.Clone(h.data)
	for _, w := range h.turns {
		data[w.body] ^= 1
	}
	text := told(verifying(t, data, nil))
	for _, part := range []string{"corrupt     line ", "… and 2 more\n", "\n12 faults\n"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in:\n%s", part, text)
		}
	}
	var colored bytes.Buffer
	if err := r.Write(&colored, true); err != nil || !strings.Contains(colored.String(), green+"fine"+plain) {
		t.Errorf("%v: %q", err, colored.String())
	}
}

func TestVerdictForPrograms(t *testing.T) {
	h := ordinary(3)
	data := slices.Clone(h.data)
	data[h.turns[1].body] ^= 1
	text, err := json.Marshal(verifying(t, data, nil))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Turns    int
		Faults   int
		Agents   []AgentCount
		Findings []struct {
			Kind               string
			Offset, Line, Turn int
			Text               string
		}
		Notes []Finding
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.Turns != 3 || got.Faults != 1 || len(got.Agents) != 3 || len(got.Findings) != 1 || got.Notes == nil {
		t.Fatalf("%s", text)
	}
	if f := got.Findings[0]; f.Kind != "corrupt" || f.Offset != h.turns[1].start || f.Line != 5 || f.Turn != 2 || f.Text == "" {
		t.Errorf("%+v", f)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := File(t.Context(), filepath.Join(dir, "none"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	fifo := filepath.Join(dir, "fifo") // which nobody writes to
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo} {
		if _, err := File(t.Context(), path, Options{}); err == nil || !strings.Contains(err.Error(), "regular") {
			t.Errorf("%s: error %v", path, err)
		}
	}
}

func TestProgressReachesTheEnd(t *testing.T) {
	h := newHistory("")
	for range 60 {
		h.turn("agent-1", strings.Repeat("x", 60000))
	}
	var last, calls int64
	_, err := Reader(t.Context(), bytes.NewReader(h.data), int64(len(h.data)), Options{Progress: func(done, total int64) {
		if done < last || total != int64(len(h.data)) {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
		calls++
	}})
	if err != nil || last != int64(len(h.data)) || calls < 3 {
		t.Errorf("%v: %d calls, the last at %d of %d", err, calls, last, len(h.data))
	}
}

// A file of endless agent names must not fill the memory.
func TestAgentsAreBounded(t *testing.T) {
	tally := newTally(0)
	for i := range 2 * mostAgents {
		p := piece{}
		p.Turn, p.Agent, p.Lines = uint64(i+1), string(rune('a'+i%26))+strings.Repeat("x", i/26%30)+string(rune(0x4e00+i)), 1
		tally.count(&p)
	}
	if n := len(tally.finish().Agents); n != mostAgents+1 {
		t.Errorf("%d agents in the report", n)
	}
}
