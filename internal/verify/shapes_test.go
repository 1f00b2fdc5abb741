package verify

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// shaped is a history of any shape that a fleet can give a file: with a preamble or
// without, of several incarnations, with agents and records of all sorts.
func shaped(r *rand.Rand, record func(*rand.Rand, *history) string) *history {
	h := newHistory(shapedPreamble(r))
	var agents []string
	for range 1 + r.IntN(4) {
		agents = append(agents, shapedAgent(r))
	}
	for range 1 + r.IntN(10) {
		if len(h.turns) > 0 && r.IntN(8) == 0 {
			h.incarnate(uuid.UUID{6: 0x40, 8: 0x80, 15: byte(len(h.turns))})
			h.head.Token = frame.Token(r.IntN(3)) // tokens begin anew
		}
		h.head.Token += frame.Token(r.Uint64N(1 << r.IntN(40)))
		var records []string
		for range 1 + r.IntN(1+r.IntN(8)) {
			records = append(records, record(r, h))
		}
		h.turn(agents[r.IntN(len(agents))], records...)
	}
	return h
}

func shapedPreamble(r *rand.Rand) string {
	switch r.IntN(8) {
	case 0:
		return "written before there was a fleet\n#turn 7 nonsense\n"
	case 1:
		return "without a newline at its end"
	case 2: // a fleet's file that was given up
		old := &history{at: time.Date(2026, 11, 19, 0, 0, 0, 0, time.UTC)}
		old.incarnate(uuid.UUID{6: 0x40, 8: 0x80, 15: 0xff})
		old.turnsOf(1 + r.IntN(3))
		return string(old.data)
	}
	return ""
}

func shapedAgent(r *rand.Rand) string {
	const first, more = "abcdefghijklmnopqrstuvwxyz0123456789", "abcdefghijklmnopqrstuvwxyz0123456789-"
	name := []byte{first[r.IntN(len(first))]}
	for range r.IntN(32) {
		name = append(name, more[r.IntN(len(more))])
	}
	return string(name)
}

// shapedRecord is a record: empty, long, beyond ASCII, or a header of a turn before.
func shapedRecord(r *rand.Rand, h *history) string {
	switch r.IntN(10) {
	case 0:
		return ""
	case 1:
		return "\t grüße, 世界, 🙂 \t"
	case 2:
		if len(h.turns) > 0 {
			return h.turns[r.IntN(len(h.turns))].Line()
		}
	case 3:
		return "#" + strings.Repeat("#", r.IntN(3))
	case 4:
		if r.IntN(20) == 0 {
			return strings.Repeat("longest ", frame.MaxRecord/8)
		}
	case 5:
		return strings.Repeat("é", r.IntN(200))
	}
	return fmt.Sprintf("%x", r.Uint64()) + strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(90))
}

// imitation is a record that may be what could come next in the file, or has come.
func imitation(r *rand.Rand, h *history) string {
	next := h.head.Turn + 1
	switch r.IntN(5) {
	case 0: // the next turn, of an empty record
		_, forged := frame.Append(nil, h.head.Sum, frame.Header{Turn: next, Agent: "forger", Token: h.head.Token + 3, At: h.at}, [][]byte{{}})
		return forged.Line()
	case 1:
		return frame.Incarnation{ID: testIDs[1], From: next}.Line()
	case 2: // the file's own beginning, or a preamble's
		return string(firstLine(h.data))
	}
	return shapedRecord(r, h)
}
