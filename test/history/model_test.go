package history

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// explained is the model as the definition has it, tried out in every order: appends
// put their records behind the others, nothing is foretold, and only the read at the
// end compares. used are those in the log.
func explained(file []turn, appends []Append, log []turn, used uint) bool {
	done := true
	for i, a := range appends {
		done = done && (used&(1<<i) != 0 || a.Turn == 0)
	}
	if done && slices.EqualFunc(file, log, func(a, b turn) bool {
		return a.agent == b.agent && slices.EqualFunc(a.records, b.records, bytes.Equal)
	}) {
		return true
	}
	for i, a := range appends {
		early := false // something that returned before a was called is still to come
		for j, b := range appends {
			early = early || b.Return < a.Call && used&(1<<j) == 0
		}
		n := uint64(len(log) + 1)
		if used&(1<<i) != 0 || early || a.Turn != 0 && a.Turn != n {
			continue
		}
		if explained(file, appends, append(log[:len(log):len(log)], turn{agent: a.Agent, records: a.Records}), used|1<<i) {
			return true
		}
	}
	return false
}

// Histories that happened are linearizable; what random changes make of them is, or is
// not, exactly when the definition says so.
func TestForetellingChangesNoVerdict(t *testing.T) {
	var yes, no int
	for seed := range uint64(6000) {
		f := newFleet(seed, 0.15)
		f.run(1+f.IntN(4), 1+f.IntN(6))
		wantLinearizable(t, fileOf(f.turns...), f.appends)
		for range 1 + f.IntN(2) {
			f.spoil()
		}
		want := explained(f.turns, f.appends, nil, 0)
		err := Check(fileOf(f.turns...), f.appends, patience)
		if want != (err == nil) || err != nil && !errors.Is(err, ErrNotLinearizable) {
			t.Fatalf("seed %d: %v, but by the definition %v\n%s\n%s", seed, err, want, fileOf(f.turns...), show(f.appends))
		}
		if want {
			yes++
		} else {
			no++
		}
	}
	t.Logf("%d linearizable, %d not", yes, no)
	if yes < 500 || no < 500 {
		t.Errorf("%d linearizable and %d not: the changes test one side only", yes, no)
	}
}

// spoil changes the file, or what was told of it.
func (f *fleet) spoil() {
	if len(f.turns) == 0 {
		return
	}
	i, j, a := f.IntN(len(f.turns)), f.IntN(len(f.turns)), &f.appends[f.IntN(len(f.appends))]
	switch f.IntN(9) {
	case 0:
		f.turns[i], f.turns[j] = f.turns[j], f.turns[i]
	case 1:
		f.turns = slices.Delete(f.turns, i, i+1)
	case 2:
		f.turns = slices.Insert(f.turns, i, f.turns[j])
	case 3:
		f.turns = f.turns[:i]
	case 4:
		f.turns[i].records = f.turns[j].records
	case 5:
		a.Turn, a.Return = 0, Unknown
	case 6:
		if a.Turn != 0 {
			a.Turn = 1 + f.Uint64N(uint64(len(f.turns)))
		}
	case 7:
		if a.Turn != 0 {
			a.Return = a.Call + f.Int64N(5)
		}
	case 8:
		a.Call = min(a.Return, a.Call+f.Int64N(20))
	}
}

func show(appends []Append) (text string) {
	for _, a := range appends {
		text += fmt.Sprintf("%s [%d, %d] turn %d %q\n", a.Agent, a.Call, a.Return, a.Turn, a.Records)
	}
	return text
}
