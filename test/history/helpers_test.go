package history

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// turn is what a test puts into a file.
type turn struct {
	number  uint64 // 0: the next
	agent   string
	records [][]byte
}

func texts(records ...string) (b [][]byte) {
	for _, r := range records {
		b = append(b, []byte(r))
	}
	return b
}

var incarnation = uuid.MustParse("5f0c2e3a-0000-4000-8000-000000000001")

// incarnated is a file's beginning, and fileOf a file of these turns, sealed as they
// stand.
func incarnated(from uint64) ([]byte, frame.Sum) {
	inc := frame.Incarnation{ID: incarnation, From: from}
	return []byte(inc.Line() + "\n"), inc.Seal(nil)
}

func fileOf(turns ...turn) []byte {
	data, sum := incarnated(1)
	var last uint64
	for _, t := range turns {
		if last++; t.number != 0 {
			last = t.number
		}
		var h frame.Header
		data, h = frame.Append(data, sum, frame.Header{Turn: last, Agent: t.agent, Token: frame.Token(last), At: time.Unix(1.8e9, 0)}, t.records)
		sum = h.Sum
	}
	return data
}

// fleet makes histories that happened: its agents call, commit and return at random
// ticks of one clock, and now and then nobody hears what became of an append.
type fleet struct {
	*rand.Rand
	deaf    float64 // how often an append is never acknowledged
	turns   []turn
	appends []Append
}

// run lets the agents make n appends, and returns when none is under way.
func (f *fleet) run(agents, n int) {
	const idle = -1
	type agent struct{ append, turn int }
	all := slices.Repeat([]agent{{append: idle}}, agents)
	for now := int64(1); n > 0 || slices.ContainsFunc(all, func(a agent) bool { return a.append != idle }); now++ {
		i := f.IntN(agents)
		switch a := &all[i]; {
		case a.append == idle && n > 0:
			n--
			a.append, a.turn = len(f.appends), 0
			f.appends = append(f.appends, f.call(fmt.Sprintf("agent-%d", i+1), now))
		case a.append == idle:
		case f.Float64() < f.deaf: // given up, written or not
			a.append = idle
		case a.turn == 0:
			f.turns = append(f.turns, turn{agent: f.appends[a.append].Agent, records: f.appends[a.append].Records})
			a.turn = len(f.turns)
		default:
			f.appends[a.append].Turn, f.appends[a.append].Return = uint64(a.turn), now
			a.append = idle
		}
	}
}

func (f *fleet) call(agent string, now int64) Append {
	n := len(f.appends) + 1
	a := Append{Agent: agent, Call: now, Return: Unknown}
	for line := range 1 + n%3 {
		a.Records = append(a.Records, fmt.Appendf(nil, "append %d of %s, line %d", n, agent, line+1))
	}
	return a
}

func newFleet(seed uint64, deaf float64) *fleet {
	return &fleet{Rand: rand.New(rand.NewPCG(seed, 11)), deaf: deaf}
}

const patience = time.Minute // far more than any test needs

func wantLinearizable(t testing.TB, file []byte, appends []Append) {
	t.Helper()
	if err := Check(file, appends, patience); err != nil {
		t.Errorf("%v\n%s", err, file)
	}
}

func wantNot(t testing.TB, file []byte, appends []Append, says string) {
	t.Helper()
	if err := Check(file, appends, patience); !errors.Is(err, ErrNotLinearizable) || !strings.Contains(err.Error(), says) {
		t.Errorf("error %v, want %v: …%s\n%s", err, ErrNotLinearizable, says, file)
	}
}
