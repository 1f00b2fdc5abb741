package verify

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// unlocked writes turns like `agent run --lock none`: it looks up the last turn in
// the file and writes its own a line at a time, waiting for a step before each.
func unlocked(f *os.File, name string, turns int, step func()) error {
	for range turns {
		step()
		data, err := os.ReadFile(f.Name())
		if err != nil {
			return err
		}
		var last frame.Header
		for line := range bytes.Lines(data) {
			if h, err := frame.ParseHeader(bytes.TrimSuffix(line, newline)); err == nil {
				last = h
			}
		}
		var records [][]byte
		for n := range 3 {
			records = append(records, fmt.Appendf(nil, "%s turn %d line %d of 3", name, last.Turn+1, n+1))
		}
		text, _ := frame.Append(nil, last.Sum, frame.Header{Turn: last.Turn + 1, Agent: name, Token: frame.Token(last.Turn + 1)}, records)
		for line := range bytes.Lines(text) {
			step()
			if _, err := f.Write(line); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestThreeWithoutALock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.txt")
	line := frame.Incarnation{ID: testIDs[0], From: 1}.Line() + "\n"
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	// A turnstile of its own: the three go round, one write each, as three processes
	// do that write at the same pace.
	var gates [3]chan struct{}
	for i := range gates {
		gates[i] = make(chan struct{}, 3)
	}
	gates[0] <- struct{}{}
	var group sync.WaitGroup
	for i := range gates {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		group.Go(func() {
			first := true
			err := unlocked(f, fmt.Sprintf("agent-%d", i+1), 20, func() {
				if !first {
					gates[(i+1)%3] <- struct{}{}
				}
				first = false
				<-gates[i]
			})
			gates[(i+1)%3] <- struct{}{}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	r, err := File(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantFirst(t, r, Interleaved)
}

// Whatever way three agents' lines fall between each other, as long as they do,
// the verifier says so.
func TestAnyInterleavingIsFound(t *testing.T) {
	for seed := range uint64(500) {
		data, apart := shuffledTurns(seed)
		r := verifying(t, data, nil)
		if apart {
			continue
		}
		if !slices.Contains(kinds(r), Interleaved) {
			t.Fatalf("seed %d: %v%s\n%s", seed, kinds(r), told(r), data)
		}
	}
}
