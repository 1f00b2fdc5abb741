package frame

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

const incarnationMark = "#turnstile 1 "

// Incarnation is the line that begins a file, or goes on with one after
// `agent adopt`. It ties the file to one head: both carry the same ID.
type Incarnation struct {
	ID       uuid.UUID
	From     uint64 // the first turn of this incarnation
	Preamble int64  // bytes before this line that no frame covers; 0 when there are none
}

// Line is the incarnation line without its newline.
func (i Incarnation) Line() string {
	line := fmt.Sprintf("%sincarnation=%s from=%d", incarnationMark, i.ID, i.From)
	if i.Preamble > 0 {
		line += fmt.Sprintf(" preamble=%d", i.Preamble)
	}
	return line
}

// Seal computes the sum at which the incarnation's chain begins. prev is the sum
// of what the file holds before the line: the last frame's sum, SumOf a preamble,
// or nil when the line is the first thing in the file.
func (i Incarnation) Seal(prev *Sum) Sum {
	var link []byte
	if prev != nil {
		link = append(link, prev[:]...)
	}
	return truncate(sha256.Sum256(append(link, i.Line()...)))
}

// SumOf is the sum of a preamble, given its SHA-256.
func SumOf(preamble [sha256.Size]byte) Sum { return truncate(preamble) }

// ParseIncarnation reads an incarnation line, given without its newline. Like
// ParseHeader it accepts one spelling only.
func ParseIncarnation(line []byte) (Incarnation, error) {
	var i Incarnation
	rest, ok := strings.CutPrefix(string(line), incarnationMark)
	if !ok {
		return i, fmt.Errorf("%w: no %q at its beginning", ErrHeader, incarnationMark)
	}
	for _, field := range strings.Split(rest, " ") {
		name, value, _ := strings.Cut(field, "=")
		var err error
		switch name {
		case "incarnation":
			i.ID, err = uuid.Parse(value)
		case "from":
			i.From, err = strconv.ParseUint(value, 10, 64)
		case "preamble":
			i.Preamble, err = strconv.ParseInt(value, 10, 64)
		default:
			err = fmt.Errorf("unknown field")
		}
		if err != nil {
			return Incarnation{}, fmt.Errorf("%w: %q: %w", ErrHeader, field, err)
		}
	}
	if i.ID == uuid.Nil || i.From == 0 || i.Line() != string(line) {
		return Incarnation{}, fmt.Errorf("%w: not in the canonical spelling", ErrHeader)
	}
	return i, nil
}
