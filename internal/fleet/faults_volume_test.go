package fleet_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// A volume that was restored to an older state lacks what was acknowledged since:
// refused by newcomers and by agents that run, until the newest state is back (row 10).
func TestRun_aVolumeThatWentBackIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	var past [][]byte
	for turn := range 4 {
		s.turns(fmt.Sprint("turn ", turn), 1)
		past = append(past, s.read())
	}
	newest := past[3]
	s.put(past[1])
	before := s.everything()
	wantRefused(t, "by a newcomer", s.run(s.calm(&script{name: "x", count: 1})))
	s.wantUnchanged(before)
	s.put(newest)
	// And by who has it open.
	source := &script{name: "mine", count: 2}
	source.before = func(turn int) {
		if turn == 1 {
			s.until("no node is left", func() bool { return len(s.nodes(s.onlooker())) == 0 })
			newest = s.read()
			s.put(past[2])
			before = s.everything()
		}
	}
	wantRefused(t, "by who has it open", s.run(s.calm(source)))
	s.wantUnchanged(before)
	if source.Pending() != 1 {
		t.Errorf("%d records are not acknowledged, want 1", source.Pending())
	}
	s.put(newest)
	s.turns("goes on", 1)
	s.verify()
}

// A file that was cut at any turn's end looks whole by itself (row 10).
func TestRun_aFileCutAtATurnsEndIsRefused(t *testing.T) {
	t.Parallel()
	for n := range 6 {
		t.Run(fmt.Sprint("behind frame ", n), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, zktest.Shared(t))
			s.turns("mine", 5)
			whole := s.read()
			parts := frames(whole)
			if len(parts) != 6 {
				t.Fatalf("%d frames", len(parts))
			}
			s.put(bytes.Join(parts[:n], nil))
			before := s.everything()
			wantRefused(t, "cut", s.run(s.calm(&script{name: "x", count: 1})))
			s.wantUnchanged(before)
			if found := s.faults(); n > 0 && !slices.Contains(found, verify.Lost) {
				t.Errorf("the verifier finds %q", found)
			}
			s.put(whole)
			s.turns("goes on", 1)
			s.verify()
		})
	}
}

// frames are the file's incarnation line and its turns' frames, each on its own. (No
// record of a script looks like a header.)
func frames(file []byte) [][]byte {
	parts := bytes.SplitAfter(file, []byte("\n#turn "))
	for i := range parts {
		if i > 0 {
			parts[i] = append([]byte("#turn "), parts[i]...)
		}
		parts[i] = bytes.TrimSuffix(parts[i], []byte("#turn "))
	}
	return parts
}

// faults are the kinds of what the verifier finds and notes.
func (s *site) faults() (kinds []verify.Kind) {
	s.t.Helper()
	report := s.judge()
	for _, f := range slices.Concat(report.Findings, report.Notes) {
		kinds = append(kinds, f.Kind)
	}
	return kinds
}

// Whatever is done to the file's bytes, the next agent refuses, or the verifier names it;
// and nobody makes it worse (row 14).
func TestRun_everyEditOfTheFileIsRefusedOrNamed(t *testing.T) {
	t.Parallel()
	const turns = 5
	for name, edit := range map[string]struct {
		do      func(parts [][]byte) [][]byte
		refused bool
		kinds   []verify.Kind // one of them is named; none: all is well
	}{
		"nothing":           {func(p [][]byte) [][]byte { return p }, false, nil},
		"a torn tail":       {func(p [][]byte) [][]byte { return append(p, []byte("#turn 6 agent-1 lin")) }, true, []verify.Kind{verify.Uncommitted}},
		"a tail of zeros":   {func(p [][]byte) [][]byte { return append(p, make([]byte, 5000)) }, true, []verify.Kind{verify.Uncommitted}},
		"a whole next turn": {func(p [][]byte) [][]byte { return append(p, nextFrame(p)) }, true, []verify.Kind{verify.Uncommitted}},
		"two next turns":    {func(p [][]byte) [][]byte { return append(p, nextFrame(p), nextFrame(p)) }, true, []verify.Kind{verify.Uncommitted}},
		"foreign text":      {func(p [][]byte) [][]byte { return append(p, []byte("somebody's >>\n")) }, true, []verify.Kind{verify.Uncommitted}},
		"a flipped bit":     {func(p [][]byte) [][]byte { p[2][len(p[2])-3] ^= 1; return p }, false, []verify.Kind{verify.Corrupt}},
		"its last bit flipped": {func(p [][]byte) [][]byte {
			p[turns][len(p[turns])-2] ^= 1
			return p
		}, false, []verify.Kind{verify.Corrupt}},
		"a line removed": {func(p [][]byte) [][]byte {
			p[2] = p[2][:bytes.IndexByte(p[2], '\n')+1]
			return p
		}, true, []verify.Kind{verify.Torn, verify.Lost}},
		"a turn removed":        {func(p [][]byte) [][]byte { return slices.Delete(p, 2, 3) }, true, []verify.Kind{verify.Missing}},
		"the last turn removed": {func(p [][]byte) [][]byte { return p[:turns] }, true, []verify.Kind{verify.Lost}},
		"a turn doubled":        {func(p [][]byte) [][]byte { return slices.Insert(p, 2, p[2]) }, true, []verify.Kind{verify.Duplicated}},
		"the last turn doubled": {func(p [][]byte) [][]byte { return append(p, p[turns]) }, true, []verify.Kind{verify.Uncommitted}},
		"two turns swapped":     {func(p [][]byte) [][]byte { p[2], p[3] = p[3], p[2]; return p }, false, []verify.Kind{verify.Reordered}},
		"no incarnation line":   {func(p [][]byte) [][]byte { return p[1:] }, true, []verify.Kind{verify.Lost, verify.Mismatch, verify.Torn, verify.Missing}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, zktest.Shared(t))
			s.turns("mine", turns)
			whole := s.read()
			edited := bytes.Join(edit.do(frames(bytes.Clone(whole))), nil)
			s.put(edited)
			before := s.everything()
			err := s.run(s.calm(&script{name: "next", count: 1}))
			if edit.refused {
				wantRefused(t, name, err)
				s.wantUnchanged(before)
			} else if err != nil {
				t.Fatal(err)
			}
			if after := s.read(); !bytes.HasPrefix(after, edited[:min(len(edited), len(whole))]) {
				t.Error("the committed part was changed")
			}
			found := s.faults()
			if len(edit.kinds) == 0 {
				if len(found) > 0 {
					t.Errorf("the verifier finds %q", found)
				}
				return
			}
			if !slices.ContainsFunc(found, func(k verify.Kind) bool { return slices.Contains(edit.kinds, k) }) {
				t.Errorf("the verifier finds %q, want one of %q", found, edit.kinds)
			}
		})
	}
}

// nextFrame is a frame of the turn after the last one, by its holder.
func nextFrame(parts [][]byte) []byte {
	line, _, _ := strings.Cut(string(parts[len(parts)-1]), "\n")
	last, err := frame.ParseHeader([]byte(line))
	if err != nil {
		panic(err)
	}
	header := frame.Header{Turn: last.Turn + 1, Agent: last.Agent, Token: last.Token, At: last.At}
	text, _ := frame.Append(nil, last.Sum, header, [][]byte{[]byte("uncommitted")})
	return text
}

// A file that was restored to an older state may have grown again, by another turn of the
// same size: it is as long as head says, and refused.
func TestRun_anotherTurnOfTheSameSizeIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	s.turns("mine", 2)
	parts := frames(s.read())
	line, _, _ := strings.Cut(string(parts[2]), "\n")
	last, err := frame.ParseHeader([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ = strings.Cut(string(parts[1]), "\n")
	first, err := frame.ParseHeader([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	other, _ := frame.Append(nil, first.Sum, frame.Header{Turn: 2, Agent: last.Agent, Token: last.Token, At: last.At}, [][]byte{[]byte("mine x")})
	if len(other) != len(parts[2]) {
		t.Fatal("it is not of the same size")
	}
	s.put(slices.Concat(parts[0], parts[1], other))
	before := s.everything()
	err = s.run(s.calm(&script{name: "next", count: 1}))
	wantRefused(t, "another turn", err)
	if err == nil || !strings.Contains(err.Error(), "does not have turn 2") {
		t.Errorf("it says: %v", err)
	}
	s.wantUnchanged(before)
}
