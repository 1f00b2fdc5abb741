package frame

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
)

// MaxCommit is the largest payload of a turn that is committed, in bytes, newlines
// included: it travels through ZooKeeper, far below its packet limit of 1 MiB. (Files of
// the first edition have frames of up to MaxBytes.)
const MaxCommit = 256 << 10

// Turn is a committed turn as it stands in ZooKeeper from its commit until it is known
// to be on the volume's disk: where its bytes belong in the file, and the bytes. It is
// one line of text and then the bytes:
//
//	turn 2 incarnation=5f0c2e3a-… before=230 offset=412 prev=77c1… run=0d9b6d5a-…
//	#turn 7 agent-3 lines=2 …
//
// The turn with the number 0 is the line that begins a new file.
type Turn struct {
	Incarnation uuid.UUID
	Number      uint64
	Before      int64     // where what stands before it begins: a frame, or the incarnation's line
	Offset      int64     // where it begins itself
	Prev        Sum       // the chain's link before it; zero for the turn 0
	Run         uuid.UUID // whose it is: one process's life

	Bytes  []byte // as in the file: a header line and its records
	Header Header // what the header line says; zero for the turn 0
}

// Next makes the turn that follows head. h.Turn is filled in, like all that Append fills
// in; the records must have passed CheckRecord.
func (d Head) Next(h Header, run uuid.UUID, records [][]byte) Turn {
	h.Turn = d.Turn + 1
	t := Turn{Incarnation: d.Incarnation, Number: h.Turn, Before: d.Start, Offset: d.Offset, Prev: d.Sum, Run: run}
	size := MaxLine
	for _, r := range records {
		size += len(r) + 1
	}
	t.Bytes, t.Header = Append(make([]byte, 0, size), d.Sum, h, records)
	return t
}

// First makes the turn 0 of a new file, which i begins.
func First(i Incarnation, run uuid.UUID) Turn {
	return Turn{Incarnation: i.ID, Run: run, Bytes: []byte(i.Line() + "\n")}
}

// End is where the turn ends in the file.
func (t Turn) End() int64 { return t.Offset + int64(len(t.Bytes)) }

// Sum is the chain's link after the turn.
func (t Turn) Sum() Sum {
	if t.Number > 0 {
		return t.Header.Sum
	}
	i, _ := ParseIncarnation(bytes.TrimSuffix(t.Bytes, []byte("\n")))
	return i.Seal(nil)
}

// Records are the turn's records, in order; the turn 0 has none. They share the turn's
// memory.
func (t Turn) Records() [][]byte {
	if t.Number == 0 {
		return nil
	}
	_, body, _ := bytes.Cut(t.Bytes, []byte("\n"))
	return bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
}

const turnNodeMark = "turn 2 incarnation="

// Encode is the turn as it stands in ZooKeeper.
func (t Turn) Encode() []byte {
	b := make([]byte, 0, MaxLine+len(t.Bytes))
	b = append(append(b, turnNodeMark...), t.Incarnation.String()...)
	b = strconv.AppendInt(append(b, " before="...), t.Before, 10)
	b = strconv.AppendInt(append(b, " offset="...), t.Offset, 10)
	b = append(append(b, " prev="...), t.Prev.String()...)
	b = append(append(b, " run="...), t.Run.String()...)
	return append(append(b, '\n'), t.Bytes...)
}

// ParseTurn reads the node of a turn, given its number. It accepts only what Encode
// wrote, whose bytes carry the right sum. Whether the turn belongs where it says is for
// the caller to compare: with head, with the turn after it, or with the file before it.
func ParseTurn(number uint64, data []byte) (Turn, error) {
	line, body, _ := bytes.Cut(data, []byte("\n"))
	f := fields{rest: string(line)}
	if err := f.mark(turnNodeMark); err != nil {
		return Turn{}, err
	}
	t := Turn{
		Number:      number,
		Incarnation: f.uuid(" before="),
		Before:      f.offset(" offset="),
		Offset:      f.offset(" prev="),
		Prev:        f.sum(" run="),
		Run:         f.uuid(""),
		Bytes:       body,
	}
	if f.failed {
		return Turn{}, fmt.Errorf("%q is not as it was written", f.bad)
	}
	if t.Incarnation == uuid.Nil || t.Before > t.Offset || !bytes.HasPrefix(data, t.line()) {
		return Turn{}, errors.New("its first line is not as it was written")
	}
	if err := t.check(); err != nil {
		return Turn{}, err
	}
	return t, nil
}

func (t Turn) line() []byte { line := t; line.Bytes = nil; return line.Encode() }

// check reads the header, and holds the bytes to it.
func (t *Turn) check() error {
	line, payload, whole := bytes.Cut(t.Bytes, []byte("\n"))
	if t.Number == 0 {
		i, err := ParseIncarnation(line)
		if err != nil || !whole || len(payload) > 0 || i.ID != t.Incarnation || i.From != 1 || i.Preamble != 0 || t.Offset != 0 || t.Prev != (Sum{}) {
			return errors.New("it does not hold the line of its incarnation")
		}
		return nil
	}
	h, err := ParseHeader(line)
	switch {
	case err != nil:
		return err
	case h.Turn != t.Number || h.Bytes != len(payload) || h.Seal(t.Prev, sha256.Sum256(payload)) != h.Sum:
		return errors.New("its number, its length or its sum is wrong")
	case bytes.Count(payload, []byte("\n")) != h.Lines || payload[len(payload)-1] != '\n':
		return errors.New("it does not hold as many records as it says")
	}
	t.Header = h
	return nil
}
