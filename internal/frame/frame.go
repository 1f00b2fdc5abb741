// Package frame is the format of the shared file: how a turn's records lie in
// it, and how each turn is sealed to all that came before.
//
// A file is a sequence of lines. `cat` reads well, and `grep -v '^#'` gives the
// records alone:
//
//	#turnstile 1 incarnation=5f0c2e3a-… from=1
//	#turn 1 agent-3 lines=2 bytes=18 token=0x10000002a at=2026-11-20T04:28:00.123Z sum=9a3f…
//	a record
//	another
//
// A frame is a header line and exactly `bytes` bytes of records, each ended by a
// newline. The byte count alone decides where a frame ends, so a record's text
// may look like a header.
//
// # The chain
//
// A frame's sum is the first 128 bits of SHA-256 over three things one after the
// other: the previous sum (16 bytes), the header line up to but not including
// " sum=", and the SHA-256 of the records (32 bytes). Only 16 + ~100 + 32 bytes
// are chained, so payloads can be hashed in parallel and a frame can be checked
// without those before it when their last sum is known. An incarnation line's sum
// is taken over the previous sum, if anything precedes the line, and the line
// without its newline. It is a checksum against accidents and mix-ups, not a
// signature: whoever can write the file can also compute sums.
//
// The package does no I/O and trusts no input: whatever does not parse exactly,
// in the one spelling that this package writes, is an error.
package frame

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"
)

const (
	// MaxRecord is the largest record, in bytes, without its newline.
	MaxRecord = 64 << 10
	// MaxBytes is the largest payload of one frame, in bytes, newlines included.
	MaxBytes = 16 << 20
	// MaxLine is more than any header or incarnation line can be, in bytes,
	// newline included.
	MaxLine = 512

	timeLayout = "2006-01-02T15:04:05.000Z"
	turnMark   = "#turn "
	sumMark    = " sum="
)

// ErrHeader is wrapped by every error of ParseHeader and ParseIncarnation.
var ErrHeader = errors.New("not a turnstile line")

// Sum is a link of the chain: the first 128 bits of a SHA-256.
type Sum [16]byte

// String gives the sum in 32 lower-case hex digits.
func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// MarshalText implements encoding.TextMarshaler.
func (s Sum) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Sum) UnmarshalText(text []byte) error {
	if len(text) != 2*len(s) {
		return fmt.Errorf("sum %q: want %d lower-case hex digits", text, 2*len(s))
	}
	for i := range s {
		high, low := hexValue[text[2*i]], hexValue[text[2*i+1]]
		if high|low > 15 {
			return fmt.Errorf("sum %q: want %d lower-case hex digits", text, 2*len(s))
		}
		s[i] = high<<4 | low
	}
	return nil
}

// hexValue is what a lower-case hex digit is worth, more than 15 for other bytes.
var hexValue = func() (value [256]byte) {
	for i := range value {
		value[i] = 0xff
	}
	for i, c := range "0123456789abcdef" {
		value[c] = byte(i)
	}
	return value
}()

// Header is what the line before a turn's records says.
type Header struct {
	Turn  uint64    // 1, 2, 3 … without gaps
	Agent string    // who wrote it
	Lines int       // how many records follow
	Bytes int       // their size, newlines included
	Token Token     // the writer's fencing token
	At    time.Time // when it was written, by the writer's clock, to the millisecond
	Sum   Sum       // seals this frame and, through the chain, all before it
}

// sealed is the part of the header line that its sum covers.
func (h Header) sealed(dst []byte) []byte {
	dst = append(dst, turnMark...)
	dst = strconv.AppendUint(dst, h.Turn, 10)
	dst = append(dst, ' ')
	dst = append(dst, h.Agent...)
	dst = append(dst, " lines="...)
	dst = strconv.AppendInt(dst, int64(h.Lines), 10)
	dst = append(dst, " bytes="...)
	dst = strconv.AppendInt(dst, int64(h.Bytes), 10)
	dst = append(dst, " token=0x"...)
	dst = strconv.AppendUint(dst, uint64(h.Token), 16)
	dst = append(dst, " at="...)
	return h.At.UTC().AppendFormat(dst, timeLayout)
}

// Line is the header as it stands in the file, without the newline.
func (h Header) Line() string {
	return string(h.sealed(nil)) + sumMark + h.Sum.String()
}

// Seal computes the sum that h must carry when it follows a frame with sum prev
// and its records have the SHA-256 payload. h.Sum itself is not looked at.
func (h Header) Seal(prev Sum, payload [sha256.Size]byte) Sum {
	var room [MaxLine]byte
	link := append(room[:0], prev[:]...)
	link = h.sealed(link)
	link = append(link, payload[:]...)
	return truncate(sha256.Sum256(link))
}

// Append encodes one frame after a frame with sum prev: it fills in h.Lines,
// h.Bytes and h.Sum from the records, appends header and records to dst, and
// returns the longer dst and the finished header. The records must have passed
// CheckRecord, and h.Agent CheckAgent.
func Append(dst []byte, prev Sum, h Header, records [][]byte) ([]byte, Header) {
	h.Lines, h.Bytes = len(records), 0
	for _, r := range records {
		h.Bytes += len(r) + 1
	}
	start := len(dst)
	dst = h.sealed(dst)
	sumAt := len(dst) + len(sumMark)
	dst = append(dst, sumMark+"00000000000000000000000000000000\n"...)
	body := len(dst)
	for _, r := range records {
		dst = append(append(dst, r...), '\n')
	}
	if len(dst)-body != h.Bytes || body-start > MaxLine {
		panic("frame: Append was given what CheckAgent refuses")
	}
	h.Sum = h.Seal(prev, sha256.Sum256(dst[body:]))
	hex.Encode(dst[sumAt:], h.Sum[:])
	return dst, h
}

func truncate(full [sha256.Size]byte) (s Sum) {
	copy(s[:], full[:])
	return s
}
