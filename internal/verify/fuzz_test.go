package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// FuzzVerify holds the verifier to this: whatever the bytes, it ends; what it lets
// pass is exactly what the fleet would have written for the turns in it; and against
// the head of a file passes that file, and nothing else.
func FuzzVerify(f *testing.F) {
	files := []*history{ordinary(5), ordinary(1), adopted(), tiny(), lookalikes()}
	for i, h := range files {
		f.Add(h.data, byte(i))
		f.Add(h.data[:h.turns[0].end], byte(i))
		f.Add(slices.Concat(h.data, h.turns[0].bytes(h)), byte(i))
		f.Add(slices.Concat([]byte("before"), h.data), byte(i))
	}
	data, _ := shuffledTurns(7)
	f.Add(data, byte(0))
	f.Fuzz(func(t *testing.T, data []byte, which byte) {
		r := verifying(t, data, nil)
		if r.OK() {
			if err := rewritten(data); err != nil {
				t.Fatalf("it passes, but %v:\n%s", err, data)
			}
		}
		if r.Faults() < len(r.Findings) || r.Judged > r.Size || r.OK() != (r.Sound.End == r.Judged) {
			t.Fatalf("%+v", r)
		}
		h := files[int(which)%len(files)]
		if got, want := verifying(t, data, &h.head), bytes.Equal(data, h.data); got.OK() != want {
			t.Fatalf("it passes for head's file: %v, and is it: %v%s\n%s", got.OK(), want, told(got), data)
		}
	})
}

// rewritten writes data anew from what it says, and compares. It may begin behind a
// preamble, wherever a line says so.
func rewritten(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	err := errors.New("there is no incarnation line")
	for pos := range data {
		if !bytes.HasPrefix(data[pos:], []byte("#turnstile 1 ")) {
			continue
		}
		inc, none := frame.ParseIncarnation(firstLine(data[pos:]))
		if none != nil || inc.Preamble != int64(pos) {
			continue
		}
		var prev *frame.Sum
		if pos > 0 {
			sum := frame.SumOf(sha(data[:pos]))
			prev = &sum
		}
		if err = rewrittenFrom(data, pos, prev); err == nil {
			return nil
		}
	}
	return err
}

// rewrittenFrom does so with what follows something that has the sum prev, or nothing.
func rewrittenFrom(data []byte, pos int, prev *frame.Sum) error {
	out := slices.Clone(data[:pos])
	for len(out) < len(data) {
		line := firstLine(data[len(out):])
		if inc, err := frame.ParseIncarnation(line); err == nil {
			sum := inc.Seal(prev)
			prev = &sum
			out = append(append(out, inc.Line()...), '\n')
			continue
		}
		h, err := frame.ParseHeader(line)
		if err != nil {
			return err
		}
		body := len(out) + len(line) + 1
		if body+h.Bytes > len(data) {
			return errors.New("a frame is cut off")
		}
		records := bytes.Split(data[body:body+h.Bytes-1], newline)
		out, h = frame.Append(out, *prev, h, records)
		prev = &h.Sum
		if !bytes.Equal(out, data[:len(out)]) {
			return fmt.Errorf("turn %d is different when it is written anew", h.Turn)
		}
	}
	return nil
}

// FuzzAcks does the same for acknowledgement logs: whatever they hold, reading ends,
// and they pass when each line of theirs tells of a record that is there, once, in the
// order of the file, and only then.
func FuzzAcks(f *testing.F) {
	h := ordinary(4)
	two, three := acksOf("agent-2", h.turns), acksOf("agent-3", h.turns)
	f.Add(two, three)
	f.Add(slices.Concat(two, two), []byte(nil))
	f.Add(frame.AppendPending(two, frame.Pending{Turn: 9}), []byte(nil))
	f.Add(slices.Concat(three, runLine("agent-3", testIDs[0]), two[bytes.Index(two, []byte("\n4 "))+1:]), runLine("a", testIDs[1]))
	f.Add(bytes.Replace(two, []byte("\n1 2 "), []byte("\n1 3 "), 1), three[:len(three)-9])
	f.Fuzz(func(t *testing.T, one, two []byte) {
		dir := t.TempDir()
		for name, log := range map[string][]byte{"one": one, "two": two} {
			if err := os.WriteFile(filepath.Join(dir, name), log, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r, err := Reader(context.Background(), bytes.NewReader(h.data), int64(len(h.data)), Options{Acks: []string{dir}})
		if err != nil {
			return // no log at all
		}
		n, want := h.acknowledgedBy(one, two)
		if r.OK() != want || want && r.Acknowledged != n {
			t.Fatalf("want fine %v with %d acknowledged, got %d%s\n%s\n%s", want, n, r.Acknowledged, told(r), one, two)
		}
	})
}

// acknowledgedBy counts the records of h that logs tell of; false when they tell of
// anything else, or of one twice, or not in order.
func (h *history) acknowledgedBy(logs ...[]byte) (n int64, fine bool) {
	type place struct {
		turn uint64
		line int
	}
	seen := map[place]bool{}
	for _, log := range logs {
		var run frame.AckRun
		var last frame.Ack
		for line := range bytes.Lines(log) {
			line, whole := bytes.CutSuffix(line, newline)
			if !whole {
				break // it was never told
			}
			if begun, err := frame.ParseAckRun(line); err == nil {
				run = begun
				continue
			}
			if _, err := frame.ParsePending(line); err == nil {
				continue
			}
			a, err := frame.ParseAck(line)
			if err != nil || run.Incarnation != h.head.Incarnation || compareAcks(a, last) <= 0 || a.Turn > h.head.Turn {
				return 0, false
			}
			w := h.turns[a.Turn-1]
			if seen[place{a.Turn, a.Line}] || a.Line > len(w.records) || sha(w.records[a.Line-1]) != a.Hash {
				return 0, false
			}
			seen[place{a.Turn, a.Line}] = true
			last = a
			n++
		}
	}
	return n, true
}

// Random damage of every sort to random files: it is noticed, unless it left the
// file as it was.
func TestRandomDamageIsNoticed(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 3))
		h := random(r, 3+r.IntN(12))
		last := h.turns[len(h.turns)-1]
		data := damaged(r, h.data[:last.end])
		if bytes.Equal(data, h.data) {
			continue
		}
		if verifying(t, data, nil).OK() && rewritten(data) != nil {
			t.Fatalf("seed %d: not noticed\n%s", seed, data)
		}
		if verifying(t, data, &h.head).OK() {
			t.Fatalf("seed %d: not noticed with head\n%s", seed, data)
		}
	}
}

func damaged(r *rand.Rand, data []byte) []byte {
	from := r.IntN(len(data))
	to := min(len(data), from+1+r.IntN(200))
	at := r.IntN(len(data))
	switch r.IntN(5) {
	case 0: // bytes gone
		return spliced(data, from, to)
	case 1: // bytes again
		return spliced(data, at, at, data[from:to]...)
	case 2: // bytes zeroed, as a file system leaves them that lost a page
		return spliced(data, from, to, make([]byte, to-from)...)
	case 3: // bytes overwritten by others of the file
		return spliced(data, from, to, data[at:min(len(data), at+to-from)]...)
	}
	return data[:from]
}
