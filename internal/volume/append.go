package volume

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const nextAppend = "the file would be damaged: take another volume"

// tally is what was read of the frames that several processes appended at once.
type tally struct {
	frames   []int // of each process, which numbers them from 0 on
	bytes    int64
	switches int // how often a frame of another process follows
}

// appends has several processes append frames of all sizes at once, in rounds, and
// reads whether each is whole and none is lost.
func (c *checker) appends(ctx context.Context, _ *Report) (Finding, error) {
	all, stop, err := c.start(ctx, processes)
	if err != nil {
		return Finding{}, err
	}
	defer stop()
	var sum tally
	frames := 0
	for end, round := c.now().Add(c.For/4), 0; round == 0 || c.now().Before(end); round++ {
		t, f, err := c.appendRound(ctx, all, round, max(end.Sub(c.now()), time.Millisecond))
		if f.Result == Failed || err != nil {
			return f, err
		}
		for _, n := range t.frames {
			frames += n
		}
		sum.bytes += t.bytes
		sum.switches += t.switches
	}
	if sum.switches < processes {
		return warning(fmt.Sprintf("%d processes appended %d frames, but hardly at the same time: too few to judge", processes, frames),
			"check again with a longer --for, on a machine that is less busy"), nil
	}
	return ok("%d processes appended %d frames at once (%s): all whole, none lost", processes, frames, size(uint64(sum.bytes))), nil
}

func (c *checker) appendRound(ctx context.Context, all []process, round int, most time.Duration) (t tally, f Finding, err error) {
	name := fmt.Sprintf("data-%d", round)
	h, err := c.create(name)
	if err != nil {
		return t, f, err
	}
	defer h.Close()
	answers, err := askAll(ctx, all, request{Do: "append", Name: c.path(name), For: most, Bytes: int64(c.space) / processes})
	if err != nil {
		return t, f, err
	}
	info, err := h.Stat()
	if err != nil {
		return t, f, err
	}
	t, err = readFrames(io.NewSectionReader(h, 0, info.Size), len(all))
	var torn *tornError
	if errors.As(err, &torn) {
		return t, failed(fmt.Sprintf("%d processes appended to one file at once, and %v", len(all), torn), nextAppend), nil
	}
	if err != nil {
		return t, f, err
	}
	for i, a := range answers {
		if t.frames[i] != a.Done {
			return t, failed(fmt.Sprintf("a process appended %d frames while others did, and %d of them are in the file", a.Done, t.frames[i]), nextAppend), nil
		}
	}
	return t, f, c.fs.Remove(c.path(name))
}

// A frame is a header line and a body, which its process and number determine:
//
//	PROCESS NUMBER LENGTH
const (
	headLen   = 2 + 1 + 8 + 1 + 8 + 1
	frameMost = 1 << 17
)

// makeFrame is the nth frame of a process: 64 bytes to 128 KiB, by its number.
func makeFrame(buf []byte, process, n int) []byte {
	length := 1<<(6+n%12) - process
	buf = fmt.Appendf(buf[:0], "%02x %08x %08x\n", process, n, length)
	buf = append(buf, bytes.Repeat([]byte{byte('a' + (7*process+n)%26)}, length-headLen-1)...)
	return append(buf, '\n')
}

// leastFrames are appended by each process, however busy the machine.
const leastFrames = 4

// appendFrames appends frame after frame, each with one write, until the time or the
// space is used up.
func appendFrames(ctx context.Context, fs FS, r request, end time.Time) (a answer, err error) {
	f, err := fs.Open(r.Name, os.O_RDWR|os.O_APPEND)
	if err != nil {
		return a, err
	}
	defer f.Close()
	var buf []byte
	for used := int64(0); ctx.Err() == nil && (a.Done < leastFrames || time.Now().Before(end)); a.Done++ {
		buf = makeFrame(buf, r.Number, a.Done)
		if used += int64(len(buf)); used > r.Bytes {
			break
		}
		if _, err := f.Write(buf); err != nil {
			return a, fmt.Errorf("append: %w", err)
		}
	}
	return a, nil
}

// tornError says where a file is not made of whole frames, and how.
type tornError struct {
	at   int64
	what string
}

func (e *tornError) Error() string { return fmt.Sprintf("at byte %d %s", e.at, e.what) }

// readFrames holds a file to what its writers must have left of it.
func readFrames(r io.Reader, writers int) (tally, error) {
	t := tally{frames: make([]int, writers)}
	in := bufio.NewReaderSize(r, frameMost)
	got, want := make([]byte, frameMost), make([]byte, 0, frameMost)
	for last := -1; ; {
		head, err := in.Peek(headLen)
		if len(head) == 0 && errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return t, err
		}
		process, n, length := 0, 0, 0
		if _, err := fmt.Sscanf(string(head), "%02x %08x %08x\n", &process, &n, &length); err != nil ||
			process < 0 || process >= writers || length < headLen || length > frameMost {
			return t, &tornError{t.bytes, "no frame begins: writes are torn or mixed"}
		}
		if _, err := io.ReadFull(in, got[:length]); errors.Is(err, io.ErrUnexpectedEOF) {
			return t, &tornError{t.bytes, "a frame is cut short"}
		} else if err != nil {
			return t, err
		}
		want = makeFrame(want, process, n)
		switch {
		case !bytes.Equal(got[:length], want):
			return t, &tornError{t.bytes, "a frame is not whole: writes are torn or mixed"}
		case n != t.frames[process]:
			return t, &tornError{t.bytes, fmt.Sprintf("frame %d of a process stands where its frame %d is due: one was lost, doubled or late", n, t.frames[process])}
		case process != last && last >= 0:
			t.switches++
		}
		t.frames[process]++
		t.bytes += int64(length)
		last = process
	}
}
