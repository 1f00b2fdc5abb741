package verify

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// lookalikes is a file whose records are the lines of whole frames: copies of
// turns before, and forged ones that go on from the true chain.
func lookalikes() *history {
	h := newHistory("")
	h.turnsOf(2)
	texts := strings.Split(strings.TrimSuffix(string(h.data), "\n"), "\n")
	h.turn("agent-9", texts...)
	forged, next := frame.Append(nil, h.head.Sum, frame.Header{
		Turn: 4, Agent: "agent-9", Token: h.head.Token + 3, At: h.at,
	}, [][]byte{[]byte("forged")})
	more, _ := frame.Append(nil, next.Sum, frame.Header{Turn: 5, Agent: "agent-9", Token: h.head.Token + 6, At: h.at}, [][]byte{[]byte("too")})
	lines := strings.Split(strings.TrimSuffix(string(forged)+string(more), "\n"), "\n")
	h.turn("agent-9", append(lines, "after that")...)
	h.turn("agent-9", lines...)
	h.turnsOf(3)
	return h
}

func TestTextNeverDecides(t *testing.T) {
	h := lookalikes()
	wantFine(t, verifying(t, h.data, nil))
	wantFine(t, verifying(t, h.data, &h.head))
	wantFine(t, verifying(t, h.data, nil, acksDir(t, h, nil)))
}

func TestDamageAmongLookalikes(t *testing.T) {
	h := lookalikes()
	for i := h.turns[0].start; i < len(h.data); i++ {
		data := slices.Clone(h.data)
		data[i] ^= 1
		r := verifying(t, data, nil)
		wantFirst(t, r, Corrupt)
		if t.Failed() {
			t.Fatalf("byte %d %q", i, h.data[i])
		}
	}
	for n := h.turns[0].start; n < len(h.data); n++ {
		if r := verifying(t, h.data[:n], nil); !h.endsAt(n) {
			wantFirst(t, r, Torn)
		} else {
			wantFine(t, r)
		}
		if t.Failed() {
			t.Fatalf("cut at %d", n)
		}
	}
	for i, w := range h.turns[:7] {
		t.Run(fmt.Sprintf("turn %d deleted", i+1), func(t *testing.T) {
			wantFirst(t, verifying(t, spliced(h.data, w.start, w.end), nil), Missing)
		})
	}
}

// A record may be an incarnation line, when somebody writes one such file into another.
func TestDamageAmongIncarnationLines(t *testing.T) {
	line := func(from uint64) string { return frame.Incarnation{ID: testIDs[1], From: from}.Line() }
	h := newHistory("")
	h.turn("agent-1", "one", line(1), "two").turn("agent-2", line(2), "more", line(3)).turn("agent-3", line(4), "three", "four")
	h.turn("agent-1", "five", line(5), line(6), "six").turn("agent-2", "the last")
	wantFine(t, verifying(t, h.data, &h.head))
	for i, w := range h.turns {
		for n, at := range w.lineEnds()[:len(w.records)] {
			t.Run(fmt.Sprintf("a foreign line after line %d of turn %d", n, i+1), func(t *testing.T) {
				wantKinds(t, verifying(t, spliced(h.data, at, at, []byte("somebody else wrote this\n")...), nil), Interleaved)
			})
		}
		t.Run(fmt.Sprintf("the header of turn %d", i+1), func(t *testing.T) {
			data := slices.Clone(h.data)
			data[w.start+8] ^= 0x40
			r := verifying(t, data, nil)
			if wantKinds(t, r, Corrupt); r.FaultCount != 1 || r.Findings[0].Turn != w.Turn {
				t.Errorf("turn %d is not named", w.Turn)
			}
		})
	}
}
