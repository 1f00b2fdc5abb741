package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
)

// ack is a line of an acknowledgement log, read by ourselves: the harness shares no
// code with what it judges.
type ack struct {
	turn uint64
	line int
	hash [32]byte
}

// ackTail follows the acknowledgement log of one slot of the fleet.
type ackTail struct {
	path string

	mu    sync.Mutex
	read  int64 // bytes
	acks  []ack
	turns int // how many different ones
	err   error
}

// look reads what was added and tells how many records and turns there are.
func (t *ackTail) look() (records, turns int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = t.more()
	}
	return len(t.acks), t.turns, t.err
}

func (t *ackTail) all() []ack {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.acks
}

func (t *ackTail) more() error {
	f, err := os.Open(t.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	text := make([]byte, max(0, info.Size()-t.read))
	n, _ := f.ReadAt(text, t.read) // shorter: an agent that starts cuts off half a line
	for {
		line, rest, whole := bytes.Cut(text[:n], []byte("\n"))
		if !whole {
			return nil
		}
		t.read += int64(len(line)) + 1
		n -= len(line) + 1
		text = rest
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if err := t.add(line); err != nil {
			return fmt.Errorf("%s: %w", t.path, err)
		}
	}
}

func (t *ackTail) add(line []byte) error {
	fields := bytes.Fields(line)
	if len(fields) != 3 {
		return fmt.Errorf("acknowledgement %q: want three fields", line)
	}
	turn, err1 := strconv.ParseUint(string(fields[0]), 10, 64)
	n, err2 := strconv.Atoi(string(fields[1]))
	a := ack{turn: turn, line: n}
	_, err3 := hex.Decode(a.hash[:], fields[2])
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("acknowledgement %q: %w", line, err)
	}
	if len(t.acks) == 0 || t.acks[len(t.acks)-1].turn != turn {
		t.turns++
	}
	t.acks = append(t.acks, a)
	return nil
}
