package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// The oracle is a second judge beside the project's verifier. It shares no code with
// the project, and knows more than the verifier does: which records exist, in which
// order each process was given them, and which were acknowledged.

// record makes the nth record (from 1) of a process: no two are alike, and whoever
// reads one can tell whether it is whole.
func record(proc string, n int) string {
	head := fmt.Sprintf("%s %d ", proc, n)
	sum := sha256.Sum256([]byte(head))
	size := 20 + int(sum[0]) // most are short
	if sum[1] == 0 {
		size = 8 << 10 // some are not
	}
	return head + strings.Repeat(fmt.Sprintf("%x", sum[2:12]), size/20+1)[:size]
}

// turnSeen is a frame as the oracle reads it.
type turnSeen struct {
	turn    uint64
	agent   string
	token   string
	begin   int
	records []string
}

// readTurns parses the file by its byte counts, and trusts nothing else.
func readTurns(data []byte) (turns []turnSeen, err error) {
	for at := 0; at < len(data); {
		line, rest, whole := bytes.Cut(data[at:], []byte("\n"))
		if !whole {
			return turns, fmt.Errorf("byte %d: a line without its end: %.80q", at, line)
		}
		if bytes.HasPrefix(line, []byte("#turnstile ")) {
			at += len(line) + 1
			continue
		}
		t := turnSeen{begin: at}
		count, size := -1, -1
		fields := strings.Fields(string(line))
		if len(fields) < 3 || fields[0] != "#turn" {
			return turns, fmt.Errorf("byte %d: no turn's header: %.80q", at, line)
		}
		t.turn, err = strconv.ParseUint(fields[1], 10, 64)
		t.agent = fields[2]
		for _, f := range fields[3:] {
			key, value, _ := strings.Cut(f, "=")
			switch key {
			case "lines":
				count, _ = strconv.Atoi(value)
			case "bytes":
				size, _ = strconv.Atoi(value)
			case "token":
				t.token = value
			}
		}
		if err != nil || count < 1 || size < 1 || size > len(rest) || rest[size-1] != '\n' {
			return turns, fmt.Errorf("byte %d: no whole turn follows: %.80q", at, line)
		}
		t.records = strings.Split(string(rest[:size-1]), "\n")
		if len(t.records) != count {
			return turns, fmt.Errorf("byte %d: turn %d has %d records, not %d", at, t.turn, len(t.records), count)
		}
		turns = append(turns, t)
		at += len(line) + 1 + size
	}
	return turns, nil
}

// verdict is what the oracle found; its faults are sentences.
type verdict struct {
	turns, records, acks int
	missing, doubled     int
	faults               []string
}

func (v *verdict) fault(format string, args ...any) {
	if len(v.faults) < 20 {
		v.faults = append(v.faults, fmt.Sprintf(format, args...))
	}
}

// judge holds the committed part of the file to what was fed and acknowledged.
// processes tells how many records each process was given.
func judge(path string, committed int64, processes map[string]int, slots map[string]*ackTail) (verdict, error) {
	var v verdict
	data, err := os.ReadFile(path)
	if err != nil {
		return v, err
	}
	if committed > int64(len(data)) {
		v.fault("the file has %d bytes, %d are committed", len(data), committed)
		committed = int64(len(data))
	}
	turns, err := readTurns(data[:committed])
	if err != nil {
		v.fault("the file: %v", err)
	}
	v.turns = len(turns)
	seen := map[string]int{} // the records of each process so far
	byTurn := map[uint64]turnSeen{}
	for i, t := range turns {
		if want := uint64(i) + turns[0].turn; t.turn != want || turns[0].turn != 1 {
			v.fault("byte %d: turn %d where turn %d is due", t.begin, t.turn, want)
		}
		byTurn[t.turn] = t
		for _, r := range t.records {
			v.records++
			v.inOrder(t, r, processes, seen)
		}
	}
	for _, tail := range slots {
		v.acknowledged(tail, byTurn)
	}
	return v, nil
}

// inOrder makes sure that a record is the next of its process: not one twice, none
// left out, none that never was, and none with a byte changed.
func (v *verdict) inOrder(t turnSeen, r string, processes map[string]int, seen map[string]int) {
	proc, rest, _ := strings.Cut(r, " ")
	number, _, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(number)
	fed, known := processes[proc]
	switch {
	case err != nil || !known || n > fed || r != record(proc, n):
		v.fault("turn %d of %s has a record that nobody wrote: %.60q", t.turn, t.agent, r)
	case n <= seen[proc]:
		v.doubled++
		v.fault("turn %d of %s has record %d of %s again", t.turn, t.agent, n, proc)
	case n != seen[proc]+1:
		v.missing += n - seen[proc] - 1
		v.fault("turn %d of %s has record %d of %s, where %d is due", t.turn, t.agent, n, proc, seen[proc]+1)
	}
	seen[proc] = max(seen[proc], n)
}

// acknowledged makes sure that each acknowledged record is where the log says.
func (v *verdict) acknowledged(tail *ackTail, turns map[uint64]turnSeen) {
	if _, _, err := tail.look(); err != nil {
		v.fault("%v", err)
	}
	told := map[[32]byte]bool{}
	for _, a := range tail.all() {
		v.acks++
		t, ok := turns[a.turn]
		if !ok || a.line > len(t.records) || sha256.Sum256([]byte(t.records[a.line-1])) != a.hash {
			v.missing++
			v.fault("%s: record %d of turn %d was acknowledged and is not there", tail.path, a.line, a.turn)
		}
		if told[a.hash] {
			v.doubled++
			v.fault("%s: record %d of turn %d was acknowledged twice", tail.path, a.line, a.turn)
		}
		told[a.hash] = true
	}
}
