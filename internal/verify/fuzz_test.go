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

// FuzzVerify holds the verifier to this: whatever the bytes, it ends, and what it
// lets pass is exactly what the fleet would have written for the turns in it.
func FuzzVerify(f *testing.F) {
	for name, h := range smallFiles() {
		f.Add(h.data, int64(0))
		f.Add(h.data, int64(h.turns[0].end))
		f.Add(slices.Concat([]byte(name), h.data), int64(len(h.data)))
	}
	f.Add(lookalikes().data, int64(-1))
	data, _ := shuffledTurns(7)
	f.Add(data, int64(99))
	f.Fuzz(func(t *testing.T, data []byte, head int64) {
		r := verifying(t, data, nil)
		if r.OK() {
			if err := rewritten(data); err != nil {
				t.Fatalf("it passes, but %v:\n%s", err, data)
			}
		}
		if r.Faults() < len(r.Findings) || r.Judged > r.Size {
			t.Fatalf("%+v", r)
		}
		if head > 0 {
			verifying(t, data, &frame.Head{Incarnation: testIDs[0], Offset: head, Turn: uint64(head) / 100})
		}
	})
}

// rewritten writes data anew from what it says, and compares.
func rewritten(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	var prev *frame.Sum
	pos := bytes.Index(data, []byte("#turnstile 1 "))
	for pos > 0 {
		inc, err := frame.ParseIncarnation(firstLine(data[pos:]))
		if err == nil && inc.Preamble == int64(pos) {
			sum := frame.SumOf(sha(data[:pos]))
			prev = &sum
			break
		}
		next := bytes.Index(data[pos+1:], []byte("#turnstile 1 "))
		if next < 0 {
			return errors.New("its preamble has no end")
		}
		pos += 1 + next
	}
	if pos < 0 {
		return errors.New("there is no incarnation line")
	}
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

// FuzzAcks does the same for acknowledgement logs: whatever they hold, reading
// ends, and what is not the log of a run does not count.
func FuzzAcks(f *testing.F) {
	h := ordinary(4)
	f.Add(acksOf("agent-2", h.turns), acksOf("agent-3", h.turns))
	f.Add(append(acksOf("agent-2", h.turns), acksOf("agent-2", h.turns)...), []byte(nil))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		dir := t.TempDir()
		for name, log := range map[string][]byte{"one": one, "two": two} {
			if err := os.WriteFile(filepath.Join(dir, name), log, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r, err := Reader(context.Background(), bytes.NewReader(h.data), int64(len(h.data)), Options{Acks: []string{dir}})
		if err == nil && r.OK() && r.Acknowledged > r.Records {
			t.Fatalf("%d of %d records acknowledged:\n%s\n%s", r.Acknowledged, r.Records, one, two)
		}
	})
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
