package writer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

const osCreate = os.O_RDWR | os.O_CREATE

// volume is a shared file with its fence, and what ZooKeeper would say of it.
type volume struct {
	path string
	mem  *memFS      // nil: the real file system
	head *frame.Head // nil: nothing was begun
}

func memVolume() *volume { return &volume{path: memDir + "/data.txt", mem: newMemFS()} }

func realVolume(t testing.TB) *volume { return &volume{path: filepath.Join(t.TempDir(), "data.txt")} }

// onBoth runs a test on the real file system and on the one in memory, which
// thereby is held to what the real one does.
func onBoth(t *testing.T, test func(t *testing.T, v *volume)) {
	t.Run("real", func(t *testing.T) { test(t, realVolume(t)) })
	t.Run("memory", func(t *testing.T) { test(t, memVolume()) })
}

func (v *volume) tryOpen(agent string) (*File, error) {
	opts := Options{Path: v.path, Agent: agent, Wait: 2 * time.Second}
	if v.mem != nil {
		opts.FS = v.mem
	}
	return Open(opts)
}

func (v *volume) open(t testing.TB, agent string) *File {
	t.Helper()
	f, err := v.tryOpen(agent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// begun is v with a new incarnation, by token 1, and turns committed by the tokens
// 2, 3, …
func (v *volume) begun(t testing.TB, turns int) *volume {
	t.Helper()
	f := v.open(t, "agent-1")
	head, err := f.Begin(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	v.head = &head
	for i := range turns {
		v.commit(t, f, frame.Token(2+i), "first of the turn", "second of the turn")
	}
	return v
}

// commit writes a turn, commits it, and leaves the receipt.
func (v *volume) commit(t testing.TB, f *File, token frame.Token, text ...string) Appended {
	t.Helper()
	out, err := f.Append(t.Context(), token, *v.head, records(text...))
	if err != nil {
		t.Fatal(err)
	}
	v.head = &out.Head
	if err := f.Receipt(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	return out
}

func records(text ...string) [][]byte {
	out := make([][]byte, len(text))
	for i, s := range text {
		out[i] = []byte(s)
	}
	return out
}

// bytes of the file with that suffix to its name; nil when there is none.
func (v *volume) bytes(t testing.TB, suffix string) []byte {
	t.Helper()
	if v.mem != nil {
		v.mem.mu.Lock()
		defer v.mem.mu.Unlock()
		if n := v.mem.live[v.path+suffix]; n != nil {
			return append([]byte{}, n.live...)
		}
		return nil
	}
	b, err := os.ReadFile(v.path + suffix)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return b
}

// put changes the content in place: the inode stays.
func (v *volume) put(t testing.TB, suffix string, content []byte) {
	t.Helper()
	if v.mem == nil {
		if err := os.WriteFile(v.path+suffix, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	n := v.mem.live[v.path+suffix]
	if n == nil {
		v.mem.nextID++
		n = &memNode{id: v.mem.nextID, links: 1}
		v.mem.live[v.path+suffix], v.mem.safe[v.path+suffix] = n, n
	}
	n.live, n.safe = slices.Clone(content), slices.Clone(content)
}

func (v *volume) add(t testing.TB, content []byte) {
	t.Helper()
	v.put(t, "", append(v.bytes(t, ""), content...))
}

// orphans are the tails that were put aside, by name.
func (v *volume) orphans(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	if v.mem != nil {
		for p := range v.mem.live {
			if filepath.Dir(p) == v.path+".orphans" {
				out[p] = v.bytes(t, p[len(v.path):])
			}
		}
		return out
	}
	names, err := filepath.Glob(v.path + ".orphans/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range names {
		out[p] = v.bytes(t, p[len(v.path):])
	}
	return out
}

// next encodes the frame that would follow head, as a dead holder leaves it.
func (v *volume) next(token frame.Token, text ...string) []byte {
	b, _ := frameAfter(*v.head, token, text...)
	return b
}

func frameAfter(head frame.Head, token frame.Token, text ...string) ([]byte, frame.Head) {
	at := time.Date(2026, 11, 20, 4, 28, 0, 0, time.UTC)
	b, h := frame.Append(nil, head.Sum, frame.Header{Turn: head.Turn + 1, Agent: "dead", Token: token, At: at}, records(text...))
	return b, head.After(h, len(b))
}

// check reads the file as far as head says, and everything in it must be right.
func (v *volume) check(t testing.TB) {
	t.Helper()
	if err := judge(v.bytes(t, ""), *v.head); err != nil {
		t.Error(err)
	}
}

// judge is a small verifier: nothing of the writer's code is in it.
func judge(file []byte, head frame.Head) error {
	if int64(len(file)) < head.Offset {
		return errors.New("lost: the file is shorter than head")
	}
	line, rest, _ := bytes.Cut(file[:head.Offset], []byte("\n"))
	begin, err := frame.ParseIncarnation(line)
	if err != nil {
		return err
	}
	sum, turn, token := begin.Seal(nil), begin.From, frame.Token(0)
	for ; len(rest) > 0; turn++ {
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		h, err := frame.ParseHeader(line)
		switch {
		case err != nil:
			return err
		case h.Turn != turn || h.Token < token || len(rest) < h.Bytes:
			return errors.New("turns, tokens or bytes are wrong: " + h.Line())
		case h.Seal(sum, sha256.Sum256(rest[:h.Bytes])) != h.Sum:
			return errors.New("the sum does not fit: " + h.Line())
		}
		sum, token, rest = h.Sum, h.Token, rest[h.Bytes:]
	}
	if begin.ID != head.Incarnation || turn != head.Turn+1 || sum != head.Sum {
		return errors.New("the file is not the one of head")
	}
	return nil
}

// ended is the context of a turn that was lost.
func ended(t testing.TB, cause error) context.Context {
	t.Helper()
	ctx, end := context.WithCancelCause(t.Context())
	end(cause)
	return ctx
}
