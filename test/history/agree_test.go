package history

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/verify"
)

// What was done to whole turns of the file, or to what was told of them, the verifier
// finds in the file and the agents' logs, and porcupine in the history: both or neither.
func TestTheVerifierAgrees(t *testing.T) {
	var fine, bad int
	for seed := range uint64(600) {
		f := newFleet(seed, 0.25)
		f.run(3, 3+f.IntN(10))
		file := fileOf(f.turns...)
		f.agree(t, seed, file, true)
		good := f.edit(&file)
		f.agree(t, seed, file, good)
		if good {
			fine++
		} else {
			bad++
		}
	}
	t.Logf("%d histories changed and still fine, %d not", fine, bad)
	if fine < 60 || bad < 300 {
		t.Errorf("%d changes did no harm and %d did: they test one side only", fine, bad)
	}
}

// agree asks both.
func (f *fleet) agree(t *testing.T, seed uint64, file []byte, want bool) {
	t.Helper()
	err := Check(file, f.appends, patience)
	report, fail := verify.Reader(t.Context(), bytes.NewReader(file), int64(len(file)), verify.Options{Acks: f.logs(t)})
	if fail != nil {
		t.Fatal(fail)
	}
	if (err == nil) != want || report.OK() != want {
		t.Fatalf("seed %d: want fine %v; history: %v; verifier: %+v\n%s\n%s", seed, want, err, report.Findings, file, show(f.appends))
	}
}

// edit changes one thing and says whether it is a history still.
func (f *fleet) edit(file *[]byte) bool {
	if len(f.turns) < 2 {
		return true
	}
	frames := bytes.SplitAfter(*file, []byte("\n#turn "))
	// Each frame begins with the mark that the split left to the one before.
	for i := range frames {
		if i > 0 {
			frames[i] = append([]byte("#turn "), frames[i]...)
		}
		frames[i] = bytes.TrimSuffix(frames[i], []byte("#turn "))
	}
	i := 1 + f.IntN(len(f.turns)-1) // not the last
	j := i + 1 + f.IntN(len(f.turns)-i)
	good := false
	switch f.IntN(6) {
	case 0:
		frames[i], frames[j] = frames[j], frames[i]
	case 1:
		frames = slices.Delete(frames, i, i+1)
	case 2:
		frames = slices.Insert(frames, j, frames[i])
	case 3, 4: // cut where a turn ends
		frames = frames[:i]
		good = !slices.ContainsFunc(f.appends, func(a Append) bool { return a.Turn >= uint64(i) })
	case 5: // one was told of another's turn, or of one that is not there
		a := &f.appends[f.IntN(len(f.appends))]
		if good = a.Turn == 0; !good {
			a.Turn += uint64(len(f.turns))
		}
	}
	*file = bytes.Join(frames, nil)
	return good
}

// logs are the acknowledgement logs that the agents would have kept.
func (f *fleet) logs(t *testing.T) (paths []string) {
	dir := t.TempDir()
	logs := map[string][]byte{}
	for _, a := range f.appends {
		if a.Turn == 0 {
			continue
		}
		log := logs[a.Agent]
		if log == nil {
			log = []byte(frame.AckRun{Agent: a.Agent, Incarnation: incarnation}.Line() + "\n")
		}
		for i, text := range a.Records {
			log = frame.AppendAck(log, frame.Ack{Turn: a.Turn, Line: i + 1, Hash: sha256.Sum256(text)})
		}
		logs[a.Agent] = log
	}
	for agent, log := range logs {
		path := filepath.Join(dir, agent)
		if err := os.WriteFile(path, log, 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}
