package main

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/follow"
	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// turnPiece is a turn with these records, as it is given out.
func turnPiece(turn uint64, records ...string) follow.Piece {
	var lines [][]byte
	for _, r := range records {
		lines = append(lines, []byte(r))
	}
	data, header := frame.Append(nil, frame.Sum{}, frame.Header{Turn: turn, Agent: "a"}, lines)
	return follow.Piece{Bytes: data, Header: header}
}

func TestCatPrintsWhatWasAskedFor(t *testing.T) {
	line := follow.Piece{Bytes: []byte("#turnstile 1 incarnation=x\n")}
	one, two := turnPiece(1, "#turn 9", ""), turnPiece(2, "two")
	for name, c := range map[string]struct {
		opts catOptions
		want string
	}{
		"all":                   {catOptions{}, string(line.Bytes) + string(one.Bytes) + string(two.Bytes)},
		"records":               {catOptions{records: true}, "#turn 9\n\ntwo\n"},
		"from a turn":           {catOptions{from: 2}, string(two.Bytes)},
		"records from a turn":   {catOptions{records: true, from: 2}, "two\n"},
		"from beyond the end":   {catOptions{from: 3}, ""},
		"from before the first": {catOptions{from: 1}, string(one.Bytes) + string(two.Bytes)},
	} {
		var out bytes.Buffer
		print := c.opts.printer(&out, map[string][]byte{})
		for _, p := range []follow.Piece{line, one, two} {
			if err := print(p); err != nil {
				t.Fatal(err)
			}
		}
		if out.String() != c.want {
			t.Errorf("%s: %q, want %q", name, out.String(), c.want)
		}
	}
}

func TestWhoReadsBesideAFleetIsRefusedWithTheNextStep(t *testing.T) {
	for _, err := range []error{frame.ErrFormat, follow.ErrMissing, follow.ErrAdopted} {
		cmd := &cobra.Command{}
		var said bytes.Buffer
		cmd.SetErr(&said)
		if got := exitCode(besideRefused(cmd, err)); got != exitRefused || !bytes.Contains(said.Bytes(), []byte(err.Error())) {
			t.Errorf("%v: exit %d, %q", err, got, said.String())
		}
	}
	if err := besideRefused(&cobra.Command{}, io.EOF); err != io.EOF {
		t.Errorf("another error became %v", err)
	}
}

func TestStatusTellsWhatIsNotWrittenAndWhoIsHeldUp(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	since := now.Add(-1200 * time.Millisecond)
	s := overview{Status: fleet.Status{Fleet: "f", At: now}}
	s.Head = &frame.Head{Turn: 7, Offset: 590, Agent: "agent-2", At: now}
	s.Turns = fleet.Unwritten{Count: 3, Oldest: 5, Agent: "agent-2", Since: &since}
	s.Agents = []fleet.Enrolled{{Member: filelock.Member{Agent: "agent-2", Host: "h"}, Held: "no space left on device", HeldSince: &since}}
	want := `fleet   f, agents: 1
held    agent-2 on h, for 1.2s: no space left on device
head    turn 7, 590 bytes, by agent-2 0s ago
unwritten  3 turns, oldest 1.2s, of agent-2
turn    nobody just now
`
	if got := describe(s); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	s.Turns = fleet.Unwritten{Count: 1, Oldest: 5, Trouble: "turns/x-5 cannot be believed"}
	if got := describeTurns(s.Turns, nil); got != "unwritten  1 turn; turns/x-5 cannot be believed\n" {
		t.Errorf("got %q", got)
	}
	if got := describeTurns(fleet.Unwritten{}, nil); got != "" {
		t.Errorf("got %q", got)
	}
}
