package fleet

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// A commit in doubt is settled by head, and head must not be older than the turn's own
// beginning.
func TestSettlingOnAZooKeeperThatWentBackIsRefused(t *testing.T) {
	inc := uuid.New()
	d := &doubt{out: writer.Appended{Head: frame.Head{Incarnation: inc, Turn: 7, Offset: 700}}}
	for turn, refused := range map[uint64]bool{0: true, 5: true, 6: false} {
		head := frame.Head{Incarnation: inc, Turn: turn, Offset: int64(100 * turn), Agent: "a", Sum: frame.Sum{1}}
		happened, err := (&Agent{}).committed(head.Encode(), d)
		if happened || errors.Is(err, writer.ErrRefused) != refused || (err != nil) != refused {
			t.Errorf("head at turn %d: %v, %v", turn, happened, err)
		}
	}
}

// Of two holders of one turn, after ZooKeeper went back in time, the one whose frame the
// file has is not for that the one who committed.
func TestSettlingAsksHeadWhoseTheTurnWas(t *testing.T) {
	ours := frame.Head{Incarnation: uuid.New(), Turn: 7, Offset: 700, Agent: "a", Sum: frame.Sum{1}}
	theirs := ours
	theirs.Sum = frame.Sum{2}
	for _, c := range []struct {
		head frame.Head
		want bool
	}{{ours, true}, {theirs, false}} {
		happened, err := (&Agent{}).committed(c.head.Encode(), &doubt{out: writer.Appended{Head: ours}})
		if happened != c.want || err != nil {
			t.Errorf("head with sum %x: %v, %v", c.head.Sum, happened, err)
		}
	}
}
