package frame

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

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

// Head says how far a file is committed. It lives in ZooKeeper, outside the file
// that it judges.
type Head struct {
	Incarnation uuid.UUID `json:"incarnation"`
	Turn        uint64    `json:"turn"`   // the last committed turn; From-1 when there is none yet
	Offset      int64     `json:"offset"` // where it ends, in bytes from the file's beginning
	Sum         Sum       `json:"sum"`    // the chain's last link there
	Token       Token     `json:"token"`  // the committer's; 0 when there is none yet
	Agent       string    `json:"agent"`
	At          time.Time `json:"at"`
}

// After is head once the frame with header h, size bytes long with its header
// line, is committed.
func (d Head) After(h Header, size int) Head {
	return Head{
		Incarnation: d.Incarnation,
		Turn:        h.Turn,
		Offset:      d.Offset + int64(size),
		Sum:         h.Sum,
		Token:       h.Token,
		Agent:       h.Agent,
		At:          h.At,
	}
}

// ParseHead reads the JSON that Encode wrote, and no other: head is not for editing.
func ParseHead(data []byte) (Head, error) {
	var d Head
	err := json.Unmarshal(data, &d)
	switch {
	case err != nil:
	case d.Incarnation == uuid.Nil || d.Offset <= 0 || d.Sum == Sum{}:
		err = errors.New("incarnation, offset or sum is missing")
	case !bytes.Equal(d.Encode(), data):
		err = errors.New("not in the canonical spelling")
	default:
		err = CheckAgent(d.Agent)
	}
	if err != nil {
		return Head{}, fmt.Errorf("parse head %q: %w", clip(data), err)
	}
	return d, nil
}

// Encode is head as it stands in ZooKeeper.
func (d Head) Encode() []byte {
	data, err := json.Marshal(d)
	if err != nil {
		panic(err) // no field of Head can fail to encode
	}
	return data
}

func clip(data []byte) string {
	if len(data) > 80 {
		return string(data[:80]) + "…"
	}
	return string(data)
}
