package verify

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// runLine begins a run in a log.
func runLine(agent string, id uuid.UUID) []byte {
	return []byte(frame.AckRun{Agent: agent, Incarnation: id}.Line() + "\n")
}

// acksOf is what the agent would have acknowledged of these turns.
func acksOf(agent string, turns []written) []byte {
	var log []byte
	var id uuid.UUID
	for _, w := range turns {
		if w.Agent != agent {
			continue
		}
		if w.incarnation != id {
			id = w.incarnation
			log = append(log, runLine(agent, id)...)
		}
		for i, r := range w.records {
			log = frame.AppendAck(log, frame.Ack{Turn: w.Turn, Line: i + 1, Hash: sha(r)})
		}
	}
	return log
}

// acksDir writes each agent's log of h to a directory.
func acksDir(t testing.TB, h *history, change map[string]func([]byte) []byte) string {
	t.Helper()
	dir := t.TempDir()
	for _, agent := range []string{"agent-1", "agent-2", "agent-3"} {
		log := acksOf(agent, h.turns)
		if f := change[agent]; f != nil {
			log = f(log)
		}
		if err := os.WriteFile(filepath.Join(dir, agent+".log"), log, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAcknowledgedAndThere(t *testing.T) {
	for _, h := range []*history{ordinary(20), adopted(), newHistory("")} {
		dir := acksDir(t, h, nil)
		r := verifying(t, h.data, &h.head, dir)
		wantFine(t, r)
		if r.Acknowledged != r.Records {
			t.Errorf("%d of %d records acknowledged", r.Acknowledged, r.Records)
		}
	}
}

func TestUnfinishedAndEmptyLogs(t *testing.T) {
	h := ordinary(9)
	wantFine(t, verifying(t, h.data, nil, acksDir(t, h, map[string]func([]byte) []byte{
		"agent-1": func(log []byte) []byte { return append(log, "400 1 e3b0c4"...) }, // never told
		"agent-2": func([]byte) []byte { return nil },
		"agent-3": func(log []byte) []byte { return log[:20] },
	})))
}

func TestLostAcknowledgements(t *testing.T) {
	h := ordinary(9)
	dir := acksDir(t, h, nil)
	w := h.turns[3]
	t.Run("the end is cut off", func(t *testing.T) {
		r := verifying(t, h.data[:h.turns[5].end], nil, dir)
		wantKinds(t, r, Lost, Lost, Lost)
	})
	t.Run("a turn is gone", func(t *testing.T) {
		wantKinds(t, verifying(t, spliced(h.data, w.start, w.end), nil, dir), Missing, Lost)
	})
	t.Run("a record was changed", func(t *testing.T) {
		data := slices.Clone(h.data)
		data[w.body] ^= 1
		wantKinds(t, verifying(t, data, nil, dir), Corrupt, Lost)
	})
	t.Run("everything is gone", func(t *testing.T) {
		wantKinds(t, verifying(t, nil, nil, dir), Lost, Lost, Lost)
	})
	t.Run("turns are swapped", func(t *testing.T) {
		x := h.turns[4]
		data := slices.Concat(h.data[:w.start], x.bytes(h), w.bytes(h), h.data[x.end:])
		wantKinds(t, verifying(t, data, nil, dir), Reordered)
	})
	t.Run("another record was acknowledged", func(t *testing.T) {
		other := acksDir(t, h, map[string]func([]byte) []byte{"agent-2": func(log []byte) []byte {
			last := bytes.LastIndexByte(log[:len(log)-1], ' ')
			return append(log[:last+1], strings.Repeat("ab", 32)+"\n"...)
		}})
		wantKinds(t, verifying(t, h.data, nil, other), Lost)
	})
	t.Run("a line that the turn does not have", func(t *testing.T) {
		other := acksDir(t, h, map[string]func([]byte) []byte{"agent-1": func(log []byte) []byte {
			return frame.AppendAck(log, frame.Ack{Turn: 9, Line: 3})
		}})
		wantKinds(t, verifying(t, h.data, nil, other), Lost)
	})
}

func TestLogsThatContradict(t *testing.T) {
	h := ordinary(9)
	again := func(from string) func([]byte) []byte {
		return func([]byte) []byte { return acksOf(from, h.turns[:3]) }
	}
	for name, c := range map[string]struct {
		change map[string]func([]byte) []byte
		want   []Kind
	}{
		"two agents take a record for their own": {map[string]func([]byte) []byte{"agent-1": again("agent-2")}, []Kind{Duplicated}},
		"a record twice in one log": {map[string]func([]byte) []byte{"agent-1": func(log []byte) []byte {
			return frame.AppendAck(frame.AppendAck(runLine("agent-1", testIDs[0]),
				frame.Ack{Turn: 3, Line: 1, Hash: sha(h.turns[2].records[0])}), frame.Ack{Turn: 3, Line: 1, Hash: sha(h.turns[2].records[0])})
		}}, []Kind{Duplicated}},
		"not in order": {map[string]func([]byte) []byte{"agent-1": func(log []byte) []byte {
			return append(log, bytes.SplitAfter(log, newline)[1]...)
		}}, []Kind{Reordered}},
		"rubbish within": {map[string]func([]byte) []byte{"agent-1": func(log []byte) []byte {
			return append(log, "rubbish\n"...)
		}}, []Kind{Corrupt}},
		"an endless line": {map[string]func([]byte) []byte{"agent-1": func(log []byte) []byte {
			return append(log, strings.Repeat("x", 1<<16)+"\n"...)
		}}, []Kind{Corrupt}},
		"another file's": {map[string]func([]byte) []byte{"agent-1": func(log []byte) []byte {
			return bytes.ReplaceAll(log, []byte(testIDs[0].String()), []byte(testIDs[1].String()))
		}}, []Kind{Mismatch}},
		"another file's and then this one's": {map[string]func([]byte) []byte{"agent-1": func(log []byte) []byte {
			old := bytes.ReplaceAll(log, []byte(testIDs[0].String()), []byte(testIDs[1].String()))
			return append(old, log...)
		}}, []Kind{Mismatch}},
	} {
		t.Run(name, func(t *testing.T) {
			wantKinds(t, verifying(t, h.data, nil, acksDir(t, h, c.change)), c.want...)
		})
	}
}

func TestRecordsWrittenTwice(t *testing.T) {
	h := newHistory("")
	h.turn("agent-1", "one").turn("agent-2", "between").turn("agent-1", "two", "three")
	h.turn("agent-2", "more").turn("agent-1", "two", "three", "four").turn("agent-1", "five")
	unsaid := func(turn uint64, turns []written) []written {
		return slices.DeleteFunc(slices.Clone(turns), func(w written) bool { return w.Turn == turn })
	}
	write := func(log []byte) string {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, log, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	told := write(acksOf("agent-1", unsaid(3, h.turns)))
	wantKinds(t, verifying(t, h.data, nil, told), Duplicated)

	t.Run("the last of the run", func(t *testing.T) {
		wantKinds(t, verifying(t, h.data, nil, write(acksOf("agent-1", unsaid(3, h.turns[:5])))), Duplicated)
	})
	t.Run("acknowledged by a namesake", func(t *testing.T) {
		wantFine(t, verifying(t, h.data, nil, told, write(acksOf("agent-1", h.turns[2:3]))))
	})
	t.Run("other records prove nothing", func(t *testing.T) {
		wantFine(t, verifying(t, h.data, nil, write(acksOf("agent-1", unsaid(5, h.turns)))))
	})
	t.Run("before the run's first", func(t *testing.T) {
		wantFine(t, verifying(t, h.data, nil, write(acksOf("agent-1", unsaid(3, unsaid(1, h.turns))))))
	})
	t.Run("between two runs", func(t *testing.T) {
		log := append(acksOf("agent-1", h.turns[:1]), acksOf("agent-1", h.turns[3:])...)
		wantFine(t, verifying(t, h.data, nil, write(log)))
	})
}

func TestWhatIsNoLogIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("shopping\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "notes.txt"), filepath.Join(dir, "none")} {
		if _, err := Reader(t.Context(), strings.NewReader(""), 0, Options{Acks: []string{path}}); err == nil {
			t.Errorf("%s passes for a log", path)
		}
	}
}
