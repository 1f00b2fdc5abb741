package frame

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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
	if len(field) != 3 || len(field[2]) != 2*sha256.Size {
		return a, fmt.Errorf("not an acknowledgement: %q", clip(line))
	}
	var errs [3]error
	a.Turn, errs[0] = strconv.ParseUint(string(field[0]), 10, 64)
	a.Line, errs[1] = strconv.Atoi(string(field[1]))
	_, errs[2] = hex.Decode(a.Hash[:], field[2])
	for _, err := range errs {
		if err != nil {
			return Ack{}, fmt.Errorf("not an acknowledgement: %q: %w", clip(line), err)
		}
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
	var r AckRun
	rest, ok := strings.CutPrefix(string(line), ackMark+"agent=")
	name, id, ok2 := strings.Cut(rest, " incarnation=")
	if !ok || !ok2 {
		return r, fmt.Errorf("not the beginning of an acknowledgement log: %q", clip(line))
	}
	if err := CheckAgent(name); err != nil {
		return r, fmt.Errorf("acknowledgement log: %w", err)
	}
	parsed, err := uuid.Parse(id)
	if err != nil {
		return r, fmt.Errorf("acknowledgement log: incarnation %q: %w", id, err)
	}
	return AckRun{Agent: name, Incarnation: parsed}, nil
}
