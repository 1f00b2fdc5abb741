package frame

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Format is the edition of what this package writes into ZooKeeper: head and turn nodes.
// The first edition's head was JSON, and it had no turn nodes.
const Format = 2

// ErrFormat is wrapped when head or a turn node was written by another edition.
var ErrFormat = errors.New("written by another edition of turnstile")

// Token is a fencing token, written in hex wherever people see it.
type Token uint64

// String gives the token as it stands in a header: 0x and hex digits.
func (t Token) String() string { return "0x" + strconv.FormatUint(uint64(t), 16) }

// MarshalText implements encoding.TextMarshaler.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Token) UnmarshalText(text []byte) error {
	digits, ok := strings.CutPrefix(string(text), "0x")
	n, err := strconv.ParseUint(digits, 16, 64)
	if !ok || err != nil || Token(n).String() != string(text) {
		return fmt.Errorf("token %q: want 0x and hex digits", text)
	}
	*t = Token(n)
	return nil
}

// Head says how far a file is committed. It lives in ZooKeeper, outside the file that it
// judges, as one line of text:
//
//	head 2 incarnation=5f0c2e3a-… line=0 queue=1 turn=7 start=412 offset=590 sum=9a3f… token=0x10000002a agent=agent-3 at=2026-11-20T04:28:00.123Z
type Head struct {
	Incarnation uuid.UUID `json:"incarnation"`
	Line        int64     `json:"line"`   // where the incarnation's line begins in the file
	Queue       uint32    `json:"queue"`  // which queue-<k> is in use, from 1
	Turn        uint64    `json:"turn"`   // the last committed turn; one less than the incarnation's first when there is none yet
	Start       int64     `json:"start"`  // where it begins; Line when there is none yet
	Offset      int64     `json:"offset"` // where it ends, in bytes from the file's beginning
	Sum         Sum       `json:"sum"`    // the chain's last link there
	Token       Token     `json:"token"`  // the committer's; 0 when there is none yet
	Agent       string    `json:"agent"`
	At          time.Time `json:"at"`
}

// Begin is the head of an incarnation whose line begins at an offset: no turn of it is
// committed yet. prev is as Incarnation.Seal has it.
func Begin(i Incarnation, line int64, prev *Sum, agent string, at time.Time) Head {
	return Head{
		Incarnation: i.ID, Line: line, Queue: 1, Turn: i.From - 1, Start: line,
		Offset: line + int64(len(i.Line())+1), Sum: i.Seal(prev), Agent: agent,
		At: at.UTC().Truncate(time.Millisecond),
	}
}

// After is head once the frame with header h, size bytes long with its header
// line, is committed.
func (d Head) After(h Header, size int) Head {
	return Head{
		Incarnation: d.Incarnation,
		Line:        d.Line,
		Queue:       d.Queue,
		Turn:        h.Turn,
		Start:       d.Offset,
		Offset:      d.Offset + int64(size),
		Sum:         h.Sum,
		Token:       h.Token,
		Agent:       h.Agent,
		At:          h.At,
	}
}

const headMark = "head 2 incarnation="

// Encode is head as it stands in ZooKeeper.
func (d Head) Encode() []byte {
	b := make([]byte, 0, MaxLine)
	b = append(append(b, headMark...), d.Incarnation.String()...)
	b = strconv.AppendInt(append(b, " line="...), d.Line, 10)
	b = strconv.AppendUint(append(b, " queue="...), uint64(d.Queue), 10)
	b = strconv.AppendUint(append(b, " turn="...), d.Turn, 10)
	b = strconv.AppendInt(append(b, " start="...), d.Start, 10)
	b = strconv.AppendInt(append(b, " offset="...), d.Offset, 10)
	b = append(append(b, " sum="...), d.Sum.String()...)
	b = strconv.AppendUint(append(b, " token=0x"...), uint64(d.Token), 16)
	b = append(append(b, " agent="...), d.Agent...)
	return d.At.UTC().AppendFormat(append(b, " at="...), timeLayout)
}

// ParseHead reads what Encode wrote, and no other spelling: head is not for editing. It
// wraps ErrFormat when another edition wrote it.
func ParseHead(data []byte) (Head, error) {
	f := fields{rest: string(data)}
	if err := f.mark(headMark); err != nil {
		return Head{}, fmt.Errorf("head %q: %w", clip(data), err)
	}
	d := Head{
		Incarnation: f.uuid(" line="),
		Line:        f.offset(" queue="),
		Queue:       uint32(f.number(" turn=", 10, 1<<32-1)),
		Turn:        f.number(" start=", 10, 1<<64-1),
		Start:       f.offset(" offset="),
		Offset:      f.offset(" sum="),
		Sum:         f.sum(" token=0x"),
		Token:       Token(f.number(" agent=", 16, 1<<64-1)),
		Agent:       f.text(" at="),
		At:          f.time(""),
	}
	switch {
	case f.failed:
		return Head{}, fmt.Errorf("head %q: %q is not as it was written", clip(data), f.bad)
	case !isAgent(d.Agent):
		return Head{}, fmt.Errorf("head %q: %w", clip(data), CheckAgent(d.Agent))
	case d.Incarnation == uuid.Nil || d.Queue == 0 || d.Line > d.Start || d.Start >= d.Offset || d.Sum == Sum{}:
		return Head{}, fmt.Errorf("head %q: a value is out of range", clip(data))
	case !bytes.Equal(d.Encode(), data):
		return Head{}, fmt.Errorf("head %q: not as it was written", clip(data))
	}
	return d, nil
}

func clip(data []byte) string {
	if len(data) > 80 {
		return string(data[:80]) + "…"
	}
	return string(data)
}
