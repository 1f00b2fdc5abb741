package writer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// record is what the fence holds: who was admitted last, and what is known to be
// committed. It is written in one piece, one disk sector long.
type record struct {
	Incarnation uuid.UUID   `json:"incarnation"`
	Line        int64       `json:"line"`   // where the incarnation's line begins in the file
	Token       frame.Token `json:"token"`  // the highest admitted
	Turn        uint64      `json:"turn"`   // the receipt: the last turn known to be committed
	Start       int64       `json:"start"`  // where it begins; Offset when there is no turn yet
	Offset      int64       `json:"offset"` // where it ends
	Sum         frame.Sum   `json:"sum"`    // and its sum
	Run         uuid.UUID   `json:"run"`    // who was admitted: one open File
	Agent       string      `json:"agent"`  // and for people
	Host        string      `json:"host"`
	PID         int         `json:"pid"`
}

const sector = 512

// encode pads the record with spaces to a sector: JSON, a CRC-32, a newline.
func (r record) encode() []byte {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // plain fields
	}
	if len(text) > sector-len(" crc=00000000\n") { // of a host whose name is all escapes
		r.Host = ""
		return r.encode()
	}
	text = fmt.Appendf(text, " crc=%08x", crc32.ChecksumIEEE(text))
	text = append(text, bytes.Repeat([]byte(" "), sector-1-len(text))...)
	return append(text, '\n')
}

func decode(b []byte) (record, error) {
	var r record
	text, sum, ok := bytes.Cut(bytes.TrimRight(b, " \n"), []byte(" crc="))
	if !ok || len(b) != sector || string(sum) != fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)) {
		return r, errors.New("damaged: the checksum does not fit")
	}
	return r, json.Unmarshal(text, &r)
}

const fenceSuffix = ".fence"

func (f *File) fencePath() string { return f.path + fenceSuffix }

// inside runs do under the fence's flock.
func (f *File) inside(ctx context.Context, do func() error) error {
	if f.fence == nil {
		h, err := f.open(f.fencePath(), os.O_RDWR)
		if err != nil {
			return err
		}
		f.fence = h
	}
	if err := f.lock(ctx); err != nil {
		return err
	}
	err := f.same(f.fencePath(), f.fence)
	if err == nil {
		err = do()
	}
	return errors.Join(err, f.fence.Unlock())
}

// inTurn is inside, for what only the holder may do: not if the turn has ended while
// we waited.
func (f *File) inTurn(ctx context.Context, do func() error) error {
	return f.inside(ctx, func() error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return do()
	})
}

// lock takes the flock. It is free unless another process is inside, for a turn
// leaves it before it commits. There is no flock that can be waited for with a
// context, so this looks again after ever longer pauses.
func (f *File) lock(ctx context.Context) error {
	const complain = 2 * time.Second
	start, complained := time.Now(), false
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := f.fence.TryLock()
		if !errors.Is(err, ErrLocked) {
			return err
		}
		waited := time.Since(start)
		if waited > complain && !complained {
			complained = true
			f.log.Warn("waiting for the fence: another process is inside and does not move", zap.String("admitted", f.lastAdmitted()))
		}
		if waited > f.wait {
			return fmt.Errorf("%w for more than %v; admitted last: %s. If it is stopped, continue or kill it", ErrBusy, f.wait, f.lastAdmitted())
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (f *File) lastAdmitted() string {
	r, err := f.readFence()
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s on host %s, pid %d, token %v", r.Agent, r.Host, r.PID, r.Token)
}

// errBlank is a fence that was created and never written, or not to the disk.
var errBlank = errors.New("the fence is empty")

func (f *File) readFence() (record, error) {
	var room [sector]byte
	n, err := f.fence.ReadAt(room[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return record{}, fmt.Errorf("read the fence: %w", err)
	}
	if len(bytes.Trim(room[:n], "\x00")) == 0 {
		return record{}, errBlank
	}
	r, err := decode(room[:n])
	if err != nil {
		return r, &RefusedError{fmt.Sprintf("the fence %s is %v", f.fencePath(), err), nextAdopt}
	}
	return r, nil
}

func (f *File) writeFence(r record) error {
	r.Run, r.Agent, r.Host, r.PID = f.run, f.agent, f.host, os.Getpid()
	if _, err := f.fence.WriteAt(r.encode(), 0); err != nil {
		return fmt.Errorf("write the fence: %w", err)
	}
	return nil
}

// LastCommit reads, without a turn, what the fence of the file at path knows to be
// committed: the turn and where it ends. ok is false when there is no fence to read.
func LastCommit(path string) (turn uint64, offset int64, ok bool) {
	text, err := os.ReadFile(path + fenceSuffix)
	if err != nil {
		return 0, 0, false
	}
	r, err := decode(text)
	return r.Turn, r.Offset, err == nil
}

// admit decides whether the holder of token may come in, and returns what the fence
// says.
func (f *File) admit(token frame.Token, head frame.Head) (record, error) {
	r, err := f.readFence()
	switch {
	case errors.Is(err, errBlank):
		return r, &RefusedError{fmt.Sprintf("the fence %s is empty", f.fencePath()), nextAdopt}
	case err != nil:
		return r, err
	case r.Incarnation != head.Incarnation:
		return r, &RefusedError{fmt.Sprintf("the file belongs to incarnation %s, head to %s", r.Incarnation, head.Incarnation), nextAdopt}
	}
	if err := f.outranks(r, token); err != nil {
		return r, err
	}
	switch {
	case r.Turn > head.Turn: // ours is the newest turn, so head cannot have moved on
		return r, &RefusedError{fmt.Sprintf("turn %d was committed, but head says %d: ZooKeeper went back in time", r.Turn, head.Turn), nextAdopt}
	case r.Turn == head.Turn && (r.Offset != head.Offset || r.Sum != head.Sum), r.Turn < head.Turn && r.Offset >= head.Offset, r.Line >= head.Offset:
		return r, &RefusedError{fmt.Sprintf("turn %d ends at byte %d with the sum %v, but head says that turn %d ends at byte %d with the sum %v", r.Turn, r.Offset, r.Sum, head.Turn, head.Offset, head.Sum), nextAdopt}
	}
	return r, nil
}

// outranks refuses a token that does not come after the one in the fence. A token that was
// given twice is no token.
func (f *File) outranks(r record, token frame.Token) error {
	switch {
	case token < r.Token:
		return fmt.Errorf("%w: ours is %v, %s has %v", ErrFenced, token, r.Agent, r.Token)
	case token == r.Token && r.Run != f.run:
		return &RefusedError{fmt.Sprintf("token %v was given to %s, and then to %s: ZooKeeper went back in time", token, r.Agent, f.agent), nextAdopt}
	}
	return nil
}

// after is what the fence must say when head is committed, whose turn begins at start, to
// keep those out who are lower than token.
func (r record) after(token frame.Token, head frame.Head, start int64) record {
	r.Token, r.Turn, r.Start, r.Offset, r.Sum = token, head.Turn, start, head.Offset, head.Sum
	return r
}

// Receipt notes on the volume that what Append did is committed, so that a ZooKeeper
// that went back in time is recognised. Acknowledge only after it. When a newer holder
// was admitted it has noted as much itself. If it has not, or our frame is gone, then
// ZooKeeper went back just now, and that one takes our frame for a dead holder's: refused.
func (f *File) Receipt(ctx context.Context, out Appended) error {
	return f.inside(ctx, func() error {
		r, err := f.readFence()
		if err != nil {
			return err
		}
		if err := f.mustStand(r, out); err != nil || r.Run != f.run {
			return err
		}
		return f.writeFence(r.after(r.Token, out.Head, out.Start))
	})
}

// mustStand refuses when our committed frame is not in the file any more, or whoever came
// next does not know of it.
func (f *File) mustStand(noted record, out Appended) error {
	if err := f.openData(os.O_RDWR | os.O_APPEND); err != nil {
		return err
	}
	line, err := f.lineAt(out.Start)
	if err != nil {
		return err
	}
	if noted.Incarnation != out.Head.Incarnation {
		return &RefusedError{fmt.Sprintf("turn %d was committed, and before that was noted the file was adopted", out.Head.Turn), "look for its records in the file before writing them again"}
	}
	there, err := frame.ParseHeader(line)
	if err != nil || there.Sum != out.Header.Sum || noted.Run != f.run && noted.Turn < out.Head.Turn {
		return &RefusedError{fmt.Sprintf("turn %d was committed, and %s, who came next, was not told of it: ZooKeeper went back in time", out.Head.Turn, noted.Agent), nextAdopt}
	}
	return nil
}
