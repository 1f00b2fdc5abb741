package verify

import (
	"slices"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// resealed is a node with another turn in it, as long as the right one and sealed.
func resealed(w written) frame.Turn {
	header := w.Header
	header.Token--
	return w.before.Next(header, testRun, w.records)
}

// TestANodeThatWasAlteredIsNotBelieved tries what the file does not have, and what it has.
func TestANodeThatWasAlteredIsNotBelieved(t *testing.T) {
	h := ordinary(6)
	moved := func(t frame.Turn, by int64) frame.Turn { t.Offset += by; return t }
	before := func(t frame.Turn, by int64) frame.Turn { t.Before += by; return t }
	cut := h.data[:h.turns[5].start]
	for name, c := range map[string]struct {
		data  []byte
		nodes []frame.Turn
		want  []Kind
	}{
		"another turn, which the file lacks":    {cut, []frame.Turn{resealed(h.turns[5])}, []Kind{Mismatch, Lost}},
		"moved, and the file lacks it":          {cut, []frame.Turn{moved(h.turns[5].node(), 1)}, []Kind{Mismatch, Lost}},
		"another turn, which the file has":      {h.data, []frame.Turn{resealed(h.turns[5])}, []Kind{Mismatch}},
		"another turn, and the next is gone":    {h.data, []frame.Turn{resealed(h.turns[3])}, []Kind{Mismatch}},
		"moved, and the next is gone":           {h.data, []frame.Turn{moved(h.turns[3].node(), -1)}, []Kind{Mismatch}},
		"moved over the next, which is gone":    {h.data, []frame.Turn{moved(h.turns[3].node(), 200), h.turns[5].node()}, []Kind{Mismatch}},
		"another before it":                     {h.data, []frame.Turn{before(h.turns[3].node(), -1)}, []Kind{Mismatch}},
		"another before it, of two":             {cut, []frame.Turn{h.turns[4].node(), before(h.turns[5].node(), -1)}, []Kind{Mismatch}},
		"the next does not go on from it":       {h.data, []frame.Turn{resealed(h.turns[4]), h.turns[5].node()}, []Kind{Mismatch}},
		"as they are":                           {h.data, h.nodesOf(2), nil},
		"as they are, and some are gone":        {h.data, []frame.Turn{h.turns[1].node(), h.turns[4].node()}, nil},
		"none":                                  {h.data, nil, nil},
		"in another order than they were given": {cut, []frame.Turn{h.turns[5].node(), h.turns[4].node()}, nil},
	} {
		r, err := seeing(t, c.data, Sight{Head: &h.head, Turns: c.nodes}, &h.head)
		got := kinds(r)
		slices.Sort(got)
		slices.Sort(c.want)
		if err != nil || !slices.Equal(got, c.want) || len(c.want) > 0 && name != "another before it, of two" && r.Unwritten > 0 {
			t.Errorf("%s: %v%s", name, err, told(r))
		}
	}
}

func TestNodesThatAreNoneOfThisHeadsAreLeftOut(t *testing.T) {
	h := ordinary(6)
	head := h.turns[3].head()
	other := h.turns[3].node()
	other.Incarnation, other.Offset = testIDs[1], 5
	r, err := seeing(t, h.data[:head.Offset], Sight{Head: &head, Turns: append(h.nodesOf(4), other)}, &head)
	if err != nil {
		t.Fatal(err)
	}
	wantNoted(t, r, 0)
}
