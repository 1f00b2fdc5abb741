package history

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// three is a history of three appends one after the other, all acknowledged, and the
// turns of its file.
func three() ([]turn, []Append) {
	return []turn{{agent: "agent-1", records: texts("one", "uno")}, {agent: "agent-2", records: texts("two")}, {agent: "agent-3", records: texts("three")}},
		[]Append{
			{"agent-1", texts("one", "uno"), 10, 19, 1},
			{"agent-2", texts("two"), 20, 29, 2},
			{"agent-3", texts("three"), 30, 39, 3},
		}
}

func TestBadHistoriesAreRejected(t *testing.T) {
	for name, c := range map[string]struct {
		change func(turns []turn, appends []Append) ([]turn, []Append)
		says   string
	}{
		"two turns swapped in the file": {func(turns []turn, appends []Append) ([]turn, []Append) {
			turns[0], turns[1] = turns[1], turns[0]
			return turns, appends
		}, "line 1 of turn 1 of agent-2 was acknowledged as turn 2"},
		"two turns swapped with their numbers": {func(turns []turn, appends []Append) ([]turn, []Append) {
			turns[0].number, turns[1].number, turns[2].number = 1, 2, 3
			turns[1], turns[2] = turns[2], turns[1]
			return turns, appends
		}, "line 1 of turn 3 of agent-3 stands where turn 2 is due"},
		"a turn doubled": {func(turns []turn, appends []Append) ([]turn, []Append) {
			return append(turns, turns[2]), appends
		}, "line 1 of turn 4 of agent-3 was acknowledged as turn 3"},
		"a turn doubled with its number": {func(turns []turn, appends []Append) ([]turn, []Append) {
			turns[2].number = 3
			return append(turns, turns[2]), appends
		}, "line 1 of turn 3 of agent-3 stands where turn 4 is due"},
		"a record doubled": {func(turns []turn, appends []Append) ([]turn, []Append) {
			turns[1].records = texts("two", "two")
			return turns, appends
		}, "line 2 of turn 2 of agent-2 stands there more often than it was appended"},
		"an acknowledged turn lost at the end": {func(turns []turn, appends []Append) ([]turn, []Append) {
			return turns[:2], appends
		}, "agent-3 called at 30 was acknowledged as turn 3, and is not there"},
		"an acknowledged turn lost in the middle": {func(turns []turn, appends []Append) ([]turn, []Append) {
			turns[2].number = 3
			return slices.Delete(turns, 1, 2), appends
		}, "line 1 of turn 3 of agent-3 stands where turn 2 is due"},
		"an acknowledged turn lost, the rest moved up": {func(turns []turn, appends []Append) ([]turn, []Append) {
			appends[2].Turn = 2
			return slices.Delete(turns, 1, 2), appends
		}, "agent-3 was called at 30, when turn 2 of agent-2 had returned at 29, which is not before it"},
		"an acknowledged record lost": {func(turns []turn, appends []Append) ([]turn, []Append) {
			turns[0].records = texts("one")
			return turns, appends
		}, "line 1 of turn 1 of agent-1 comes from no append"},
		"a foreign turn": {func(turns []turn, appends []Append) ([]turn, []Append) {
			return append(turns, turn{agent: "agent-1", records: texts("four")}), appends
		}, "line 1 of turn 4 of agent-1 comes from no append"},
		"a foreign record in a turn": {func(turns []turn, appends []Append) ([]turn, []Append) {
			turns[1].records = texts("two", "zwei")
			return turns, appends
		}, "line 2 of turn 2 of agent-2 comes from no append"},
		"another agent's name on a turn": {func(turns []turn, appends []Append) ([]turn, []Append) {
			turns[1].agent = "agent-1"
			return turns, appends
		}, "line 1 of turn 2 of agent-1 comes from no append"},
		"a turn torn in two": {func(turns []turn, appends []Append) ([]turn, []Append) {
			appends[1].Turn, appends[2].Turn = 3, 4
			turns[0].records = texts("one")
			return slices.Insert(turns, 1, turn{agent: "agent-1", records: texts("uno")}), appends
		}, "line 1 of turn 1 of agent-1 comes from no append"},
		"order against real time": {func(turns []turn, appends []Append) ([]turn, []Append) {
			turns[0], turns[1] = turns[1], turns[0]
			appends[0].Turn, appends[1].Turn = 2, 1
			return turns, appends
		}, "line 1 of turn 1 of agent-2 was called at 20, when turn 2 of agent-1 had returned at 19, which is not before it"},
		"one never acknowledged, before one that had returned when it was called": {func(turns []turn, appends []Append) ([]turn, []Append) {
			turns[0], turns[1] = turns[1], turns[0]
			appends[0].Turn = 2
			appends[1].Turn, appends[1].Return = 0, Unknown
			return turns, appends
		}, "line 1 of turn 1 of agent-2 was called at 20, when turn 2 of agent-1 had returned at 19"},
		"one never acknowledged, twice": {func(turns []turn, appends []Append) ([]turn, []Append) {
			appends[2].Turn, appends[2].Return = 0, Unknown
			return append(turns, turns[2]), appends
		}, "line 1 of turn 4 of agent-3 stands there more often than it was appended"},
		"an acknowledged one written anew": {func(turns []turn, appends []Append) ([]turn, []Append) {
			appends[2].Turn = 4
			return append(turns, turns[2]), appends
		}, "line 1 of turn 3 of agent-3 was acknowledged as turn 4"},
		"acknowledged by whom nobody saw, and not there": {func(turns []turn, appends []Append) ([]turn, []Append) {
			appends[2].Return = Unknown
			return turns[:2], appends
		}, "agent-3 called at 30 was acknowledged as turn 3, and is not there"},
		"two acknowledged with the same turn, which is there once": {func(turns []turn, appends []Append) ([]turn, []Append) {
			return turns, append(appends, appends[2])
		}, "more appends were acknowledged with the same turn than are there"},
	} {
		t.Run(name, func(t *testing.T) {
			turns, appends := three()
			wantLinearizable(t, fileOf(turns...), appends)
			turns, appends = c.change(turns, appends)
			wantNot(t, fileOf(turns...), appends, c.says)
		})
	}
}

func TestWhatNobodyHeardOfMayHaveHappenedOrNot(t *testing.T) {
	turns, appends := three()
	appends[1].Turn, appends[1].Return = 0, Unknown
	wantLinearizable(t, fileOf(turns...), appends)
	appends[2].Turn = 2
	wantLinearizable(t, fileOf(turns[0], turns[2]), appends)
	appends[2].Turn = 0
	appends[2].Return = Unknown
	wantLinearizable(t, fileOf(turns[0]), appends)
	wantLinearizable(t, fileOf(turns[0], turns[2], turns[1]), appends)
	wantLinearizable(t, fileOf(), appends[1:])
	wantLinearizable(t, nil, appends[1:])
	wantLinearizable(t, nil, nil)

	t.Run("later than what was called after it", func(t *testing.T) {
		turns, appends := three()
		appends[0].Turn, appends[0].Return = 0, Unknown
		appends[1].Turn, appends[2].Turn = 1, 2
		wantLinearizable(t, fileOf(turns[1], turns[2], turns[0]), appends)
	})
	t.Run("its turn is known from elsewhere", func(t *testing.T) {
		turns, appends := three()
		appends[2].Return = Unknown
		wantLinearizable(t, fileOf(turns...), appends)
	})
}

func TestConcurrentAppendsStandInAnyOrder(t *testing.T) {
	turns, appends := three()
	appends[0].Return, appends[1].Return = 25, 35 // each overlaps with the next
	for _, order := range [][]int{{0, 1, 2}, {1, 0, 2}, {0, 2, 1}} {
		var file []turn
		for i, n := range order {
			file = append(file, turns[n])
			appends[n].Turn = uint64(i + 1)
		}
		wantLinearizable(t, fileOf(file...), appends)
	}
	appends[0].Turn, appends[1].Turn, appends[2].Turn = 2, 3, 1
	wantNot(t, fileOf(turns[2], turns[0], turns[1]), appends, "turn 1 of agent-3 was called at 30, when turn 2 of agent-1 had returned at 25")

	// At the same instant is at the same time.
	turns, appends = three()
	appends[0].Return, appends[0].Turn, appends[1].Turn = 20, 2, 1
	wantLinearizable(t, fileOf(turns[1], turns[0], turns[2]), appends)
}

func TestSeveralAppendsInOneTurn(t *testing.T) {
	file := fileOf(turn{agent: "a", records: texts("one", "two", "three", "")})
	appends := []Append{
		{"a", texts("one"), 1, 9, 1}, {"a", texts("two", "three"), 2, 9, 1}, {"a", texts(""), 3, Unknown, 0},
	}
	wantLinearizable(t, file, appends)
	appends[0].Return = 2
	wantLinearizable(t, file, appends)
	appends[1].Call, appends[1].Return, appends[0].Call, appends[0].Return = 1, 2, 3, 9
	wantNot(t, file, appends, "line 1 of turn 1 of a was called at 3, when turn 1 of a had returned at 2")
	// An append's records are in one turn, not over two.
	wantNot(t, fileOf(turn{agent: "a", records: texts("one", "two")}, turn{agent: "a", records: texts("three", "")}),
		[]Append{{"a", texts("one"), 1, 9, 1}, {"a", texts("two", "three"), 1, 9, 1}, {"a", texts(""), 1, 9, 2}}, "line 2 of turn 1 of a comes from no append")
}

func TestAppendsOfTheSameRecords(t *testing.T) {
	same := turn{agent: "a", records: texts("same")}
	appends := []Append{{"a", texts("same"), 1, 2, 1}, {"a", texts("same"), 3, Unknown, 0}, {"a", texts("same"), 5, 6, 2}}
	wantLinearizable(t, fileOf(same, same), appends)
	appends[2].Turn = 3
	wantLinearizable(t, fileOf(same, same, same), appends)
	wantNot(t, fileOf(same, same, same, same), appends, "turn 4 of a stands there more often than it was appended")
	appends[2].Turn = 1
	wantNot(t, fileOf(same, same, same), appends, "turn 3 of a stands there more often than it was appended")
}

func TestLaterIncarnationsGoOn(t *testing.T) {
	appends := []Append{{"a", texts("one"), 1, 2, 7}, {"a", texts("two"), 3, 4, 8}}
	first, sum := incarnated(7)
	file, h := frame.Append(first, sum, frame.Header{Turn: 7, Agent: "a"}, appends[0].Records)
	second, _ := incarnated(8)
	file, _ = frame.Append(append(file, second...), h.Sum, frame.Header{Turn: 8, Agent: "a"}, appends[1].Records)
	wantLinearizable(t, file, appends)
}

func TestFilesThatCannotBeRead(t *testing.T) {
	turns, appends := three()
	file := fileOf(turns...)
	for n := range file {
		err := Check(file[:n], appends, patience)
		if err == nil {
			t.Fatalf("cut at %d of %d: accepted", n, len(file))
		}
		if whole := n == 0 || bytes.HasPrefix(file[n:], []byte("#turn ")); whole != errors.Is(err, ErrNotLinearizable) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	for name, bad := range map[string][]byte{
		"no incarnation line": file[bytes.IndexByte(file, '\n')+1:],
		"a foreign line":      append(slices.Clone(file), "rubbish\n"...),
		"a line too many":     bytes.Replace(file, []byte("one\n"), []byte("on\n\n"), 1),
		"the newline changed": append(file[:len(file)-1:len(file)-1], 'x'),
	} {
		if err := Check(bad, appends, patience); err == nil || errors.Is(err, ErrNotLinearizable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAppendsThatMakeNoSense(t *testing.T) {
	for name, a := range map[string]Append{
		"no records":                {"a", nil, 1, 2, 1},
		"returned before it called": {"a", texts("x"), 2, 1, 1},
		"returned without a turn":   {"a", texts("x"), 1, 2, 0},
	} {
		if err := Check(nil, []Append{a}, patience); err == nil || errors.Is(err, ErrNotLinearizable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Nothing tells these appends apart, and one too few explains the file, so every
// order of them is on the way to no.
func TestWhatIsNotFoundOutInTimeIsUndecided(t *testing.T) {
	var turns []turn
	var appends []Append
	for range 60 {
		turns = append(turns, turn{agent: "a", records: texts("")})
		appends = append(appends, Append{"a", texts(""), 1, Unknown, 0})
	}
	if err := Check(fileOf(turns...), appends[1:], 20*time.Millisecond); !errors.Is(err, ErrUndecided) {
		t.Errorf("error %v, want %v", err, ErrUndecided)
	}
}

// A chaos run's history is as long, and what it must not take is hours to say no.
func TestTwentyThousandTurnsAreJudgedInTime(t *testing.T) {
	f := newFleet(1, 0.01)
	f.run(5, 20_000)
	file := fileOf(f.turns...)
	wantLinearizable(t, file, f.appends)
	acknowledged := func(turn uint64) *Append {
		for i := range f.appends {
			if a := &f.appends[i]; a.Turn >= turn {
				return a
			}
		}
		t.Fatalf("no turn from %d on was acknowledged", turn)
		return nil
	}
	early, late := acknowledged(19_000), acknowledged(19_100)
	early.Call, early.Return = late.Return+1, late.Return+2
	wantNot(t, file, f.appends, "which is not before it")
	early.Turn, early.Return = 0, Unknown
	wantNot(t, file, f.appends, "which is not before it")
	wantNot(t, fileOf(f.turns[:18_000]...), f.appends, "and is not there")
}
