package frame

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Ack is one line of an acknowledgement log: the agent was told that this record
// is on disk and committed. The log is text, one record a line, in the order of
// acknowledgement: turn, line within the turn (from 1), SHA-256 of the record's
// text without its newline:
//
//	#acks 1 agent=agent-3 incarnation=5f0c2e3a-…
//	42 1 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
type Ack struct {
	Turn uint64
	Line int
	Hash [sha256.Size]byte
}

// AppendAck appends a as a line, newline included.
func AppendAck(dst []byte, a Ack) []byte {
	dst = strconv.AppendUint(dst, a.Turn, 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(a.Line), 10)
	dst = append(dst, ' ')
	dst = hex.AppendEncode(dst, a.Hash[:])
	return append(dst, '\n')
}

// ParseAck reads a line that AppendAck wrote, given without its newline.
func ParseAck(line []byte) (Ack, error) {
	var a Ack
	field := bytes.Split(line, []byte(" "))
	if len(field) == 3 && len(field[2]) == 2*sha256.Size {
		a.Turn, _ = strconv.ParseUint(string(field[0]), 10, 64)
		a.Line, _ = strconv.Atoi(string(field[1]))
		_, _ = hex.Decode(a.Hash[:], field[2])
	}
	// What did not parse, or in another spelling, does not come out the same.
	if a.Turn == 0 || a.Line < 1 || !bytes.Equal(AppendAck(nil, a), append(line[:len(line):len(line)], '\n')) {
		return Ack{}, fmt.Errorf("not an acknowledgement: %q", clip(line))
	}
	return a, nil
}

// AckRun begins what one run of an agent acknowledged, within its log.
type AckRun struct {
	Agent       string
	Incarnation uuid.UUID
}

const ackMark = "#acks 1 "

// Line is the run's first line, without its newline.
func (r AckRun) Line() string {
	return fmt.Sprintf("%sagent=%s incarnation=%s", ackMark, r.Agent, r.Incarnation)
}

// ParseAckRun reads a line that Line gave.
func ParseAckRun(line []byte) (AckRun, error) {
	rest, _ := strings.CutPrefix(string(line), ackMark+"agent=")
	name, id, _ := strings.Cut(rest, " incarnation=")
	parsed, err := uuid.Parse(id)
	r := AckRun{Agent: name, Incarnation: parsed}
	if err != nil || CheckAgent(name) != nil || r.Line() != string(line) {
		return AckRun{}, fmt.Errorf("not the beginning of an acknowledgement log: %q", clip(line))
	}
	return r, nil
}

// Pending is a line of an acknowledgement log that acknowledges nothing: the agent was
// told to stop when this turn of its was committed, and not yet known to be on disk. The
// agent's next run settles it.
//
//	#pending 42 5120 9a3f0c…
type Pending struct {
	Turn   uint64
	Offset int64 // where the turn begins in the file
	Sum    Sum   // the frame's
}

const pendingMark = "#pending "

// AppendPending appends p as a line, newline included.
func AppendPending(dst []byte, p Pending) []byte {
	dst = strconv.AppendUint(append(dst, pendingMark...), p.Turn, 10)
	dst = strconv.AppendInt(append(dst, ' '), p.Offset, 10)
	return append(append(append(dst, ' '), p.Sum.String()...), '\n')
}

// IsPending tells whether a line, given without its newline, means to be a Pending.
func IsPending(line []byte) bool { return bytes.HasPrefix(line, []byte(pendingMark)) }

// ParsePending reads a line that AppendPending wrote, given without its newline.
func ParsePending(line []byte) (Pending, error) {
	f := fields{rest: strings.TrimPrefix(string(line), pendingMark)}
	p := Pending{Turn: f.number(" ", 10, math.MaxUint64), Offset: f.offset(" "), Sum: f.sum("")}
	if f.failed || p.Turn == 0 || !bytes.Equal(AppendPending(nil, p), append(line[:len(line):len(line)], '\n')) {
		return Pending{}, fmt.Errorf("not a pending turn: %q", clip(line))
	}
	return p, nil
}
