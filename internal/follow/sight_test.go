package follow

import (
	"errors"
	"math/rand/v2"
	"path"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
)

// TestWatch_whatZooKeeperSays puts nodes of all sorts there.
func TestWatch_whatZooKeeperSays(t *testing.T) {
	stage := recipetest.NewStage(t)
	root := filelock.Root(path.Dir(stage.Dir))
	ctx := recipetest.Background(t)
	put := func(node string, data []byte) {
		t.Helper()
		if _, err := stage.Sess.Create(ctx, node, data, 0); err != nil {
			t.Fatal(err)
		}
	}
	none, err := Watch(ctx, stage.Sess, root, 0)
	if err != nil || none.Head != nil {
		t.Fatalf("before the fleet: %+v, %v", none, err)
	}
	if err := filelock.Ensure(ctx, stage.Sess, root); err != nil {
		t.Fatal(err)
	}
	w := newWorld("").fill(rand.New(rand.NewPCG(1, 2)), 6)
	then := w.head
	w.commit("committed later")
	put(root.Head(), then.Encode())
	select {
	case <-none.Changed:
	case <-time.After(recipetest.Patience):
		t.Fatal("it is not told that head was made")
	}
	for i, turn := range w.turns {
		data := turn.Encode()
		switch i {
		case 3:
			continue // gone
		case 4:
			data[len(data)-2] ^= 1
		}
		put(root.Turn(turn.Incarnation, turn.Number), data)
	}
	put(root.Turn(uuid.New(), 2), w.turns[2].Encode())
	put(root.Turns()+"/note", nil)
	for from, want := range map[uint64][]uint64{0: {0, 1, 2, 5, 6}, 2: {2, 5, 6}, 7: nil} {
		seen, err := Watch(ctx, stage.Sess, root, from)
		if err != nil || *seen.Head != then || len(seen.Turns) != len(want) {
			t.Fatalf("from %d: %+v, %v", from, seen, err)
		}
		for i, n := range want {
			if seen.Turns[i].Number != n {
				t.Errorf("from %d: turn %d, want %d", from, seen.Turns[i].Number, n)
			}
		}
		if doubted := len(seen.Doubts) == 1; doubted != (from <= 4) {
			t.Errorf("from %d: doubts %v", from, seen.Doubts)
		}
	}
	if head, err := Final(ctx, stage.Sess, root); err != nil || *head != then {
		t.Errorf("the last head is %+v, %v", head, err)
	}
	if head, err := Final(ctx, stage.Sess, "/turnstile/none"); err != nil || head != nil {
		t.Errorf("of no fleet: %+v, %v", head, err)
	}
	if _, err := stage.Sess.Set(ctx, root.Head(), []byte("head 3 x"), -1); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Watch": second(Watch(ctx, stage.Sess, root, 0)), "Head": second(Head(ctx, stage.Sess, root)), "Final": second(Final(ctx, stage.Sess, root)),
	} {
		if !errors.Is(err, frame.ErrFormat) {
			t.Errorf("%s of another edition's head: %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
