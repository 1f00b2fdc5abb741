package sim

import "math/rand/v2"

// tape is what a schedule decides, in order. It makes decisions from a seed, or plays
// those of an earlier schedule again; where that one ends, everything is uneventful.
// 0 is always the uneventful decision.
type tape struct {
	random *rand.Rand // nil: play again
	old    []uint16
	made   []uint16
}

func newTape(seed uint64) *tape {
	return &tape{random: rand.New(rand.NewPCG(seed, 0x7475726e7374696c)), made: make([]uint16, 0, 1024)}
}

func replay(old []uint16) *tape { return &tape{old: old} }

// pick decides for one of n.
func (t *tape) pick(n int) int {
	if n <= 1 {
		return 0
	}
	var x int
	switch at := len(t.made); {
	case t.random != nil:
		x = t.random.IntN(n)
	case at < len(t.old):
		x = int(t.old[at]) % n
	}
	t.made = append(t.made, uint16(x))
	return x
}

// chance decides for yes once in n times.
func (t *tape) chance(n int) bool {
	yes := false
	switch at := len(t.made); {
	case t.random != nil:
		yes = t.random.IntN(n) == 0
	case at < len(t.old):
		yes = t.old[at] != 0
	}
	var x uint16
	if yes {
		x = 1
	}
	t.made = append(t.made, x)
	return yes
}
