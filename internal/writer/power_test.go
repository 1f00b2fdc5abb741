package writer

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// fleetOfOne is an agent and its ZooKeeper, which is on another machine: it keeps
// head and gives the tokens, whatever happens to the volume.
type fleetOfOne struct {
	v     *volume
	token frame.Token
	acked []byte // all that was ever acknowledged, incarnation line included
}

// live is what an agent does from its start on: begin if need be, and so many
// turns. Now and then the commit does not come to pass.
func (z *fleetOfOne) live(ctx context.Context, turns int, r *rand.Rand) error {
	f, err := z.v.tryOpen("agent-1")
	if err != nil {
		return err
	}
	defer f.Close()
	if z.v.head == nil {
		z.token++
		head, err := f.Begin(ctx, z.token)
		if err != nil {
			return err
		}
		z.v.head = &head
		z.acked = []byte(frame.Incarnation{ID: head.Incarnation, From: 1}.Line() + "\n")
	}
	for range turns {
		z.token++
		text := records("record", string(bytes.Repeat([]byte("x"), r.IntN(1500))))
		out, err := f.Append(ctx, z.token, *z.v.head, text)
		if err != nil {
			return err
		}
		if r.IntN(4) == 0 {
			continue // the turn was lost before its commit
		}
		z.v.head = &out.Head
		z.acked = append(append(z.acked, out.Header.Line()+"\n"...), append(bytes.Join(text, []byte("\n")), '\n')...)
		if err := f.Receipt(ctx, out); err != nil {
			return err
		}
	}
	return nil
}

// stands is what must be true after every disaster.
func (z *fleetOfOne) stands(t testing.TB, what string, seed uint64) {
	t.Helper()
	if z.v.head == nil {
		return
	}
	file := z.v.mem.live[z.v.path]
	if file == nil || !bytes.HasPrefix(file.live, z.acked) {
		t.Fatalf("%s, seed %d: what was acknowledged is not in the file", what, seed)
	}
	if err := judge(file.live, *z.v.head); err != nil {
		t.Fatalf("%s, seed %d: %v", what, seed, err)
	}
}

// disaster lives until the step, dies there, and after the reboot must go on.
func (z *fleetOfOne) disaster(t testing.TB, what string, step int, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, uint64(step)))
	z.v.mem.dieAt, z.v.mem.tear = step, r.IntN(600)
	if err := z.live(t.Context(), 3, r); err != nil && !errors.Is(err, errDead) {
		t.Fatalf("%s at step %d, seed %d: %v", what, step, seed, err)
	}
	if z.v.mem.dieAt = 0; what == "kill" {
		z.v.mem = z.v.mem.killed()
	} else {
		z.v.mem = z.v.mem.powerLost(r)
	}
	z.stands(t, what, seed)
}

func (z *fleetOfOne) goesOn(t testing.TB, what string, step int, seed uint64) {
	t.Helper()
	last := z.v.mem.log
	if err := z.live(t.Context(), 3, rand.New(rand.NewPCG(seed, 7))); err != nil {
		t.Fatalf("after a %s at step %d (seed %d, log %q) nobody can go on, though nothing was lost: %v", what, step, seed, last, err)
	}
	z.stands(t, what+", then on", seed)
}

// steps is how many there are in an undisturbed life.
func steps(t testing.TB) int {
	t.Helper()
	z := fleetOfOne{v: memVolume()}
	if err := z.live(t.Context(), 3, rand.New(rand.NewPCG(0, 0))); err != nil {
		t.Fatal(err)
	}
	return len(z.v.mem.log)
}

func TestADisasterAtEveryStepLosesNothingAndStopsNobody(t *testing.T) {
	for _, what := range []string{"kill", "power loss"} {
		t.Run(what, func(t *testing.T) {
			for step := range steps(t) + 10 {
				for seed := range uint64(8) {
					z := fleetOfOne{v: memVolume()}
					z.disaster(t, what, step+1, seed)
					z.goesOn(t, what, step+1, seed)
				}
			}
		})
	}
}

func TestDisasterUponDisasterLosesNothingAndStopsNobody(t *testing.T) {
	most := steps(t)
	for seed := range uint64(250) {
		r := rand.New(rand.NewPCG(seed, 99))
		z := fleetOfOne{v: memVolume()}
		for range 6 {
			what := []string{"kill", "power loss"}[r.IntN(2)]
			z.disaster(t, what, 1+r.IntN(most), r.Uint64())
		}
		z.goesOn(t, "last disaster", 0, seed)
	}
}

// Several agents, each of which may be paused between any two steps of its turn
// and go on when others had theirs: one thread, every order of a seed.
func TestAPausedHolderNeverDamagesWhatOthersCommitted(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 5))
		v := memVolume().begun(t, 1)
		type paused struct {
			f     *File
			token frame.Token
			head  frame.Head
			out   *Appended
		}
		var late []paused
		token := frame.Token(10)
		for range 12 {
			token++
			f := v.open(t, "agent-1")
			turn := paused{f: f, token: token, head: *v.head}
			switch r.IntN(3) {
			case 0: // paused before the flock
				late = append(late, turn)
			case 1: // paused between fdatasync and commit
				out, err := f.Append(t.Context(), token, *v.head, records("paused"))
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				turn.out = &out
				late = append(late, turn)
			default:
				v.commit(t, f, token, "fine")
			}
			if len(late) > 0 && r.IntN(2) == 0 {
				i := r.IntN(len(late))
				before := v.bytes(t, "")[:v.head.Offset]
				if late[i].out != nil { // its commit is refused by ZooKeeper; a receipt it may send all the same
					out := *late[i].out
					out.Head = *v.head
					late[i].f.Receipt(t.Context(), out)
				}
				_, err := late[i].f.Append(t.Context(), late[i].token, late[i].head, records("late"))
				if late[i].head.Turn < v.head.Turn && err == nil {
					t.Fatalf("seed %d: a paused holder wrote after a commit", seed)
				}
				if !bytes.HasPrefix(v.bytes(t, ""), before) {
					t.Fatalf("seed %d: a paused holder damaged what was committed", seed)
				}
			}
		}
		v.commit(t, v.open(t, "agent-1"), token+1, "last")
		v.check(t)
	}
}
