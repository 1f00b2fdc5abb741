package fleet

import (
	"path"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
)

// TestLook_turnsAndWhoIsHeldUp puts nodes there by hand.
func TestLook_turnsAndWhoIsHeldUp(t *testing.T) {
	stage := recipetest.NewStage(t)
	root, ctx := filelock.Root(path.Dir(stage.Dir)), recipetest.Background(t)
	put := func(node string, data []byte) {
		t.Helper()
		if _, err := stage.Sess.Create(ctx, node, data, 0); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := Look(ctx, stage.Sess, root, "stage"); err != nil || s.Head != nil || s.Turns != (Unwritten{}) {
		t.Fatalf("before the fleet: %+v, %v", s, err)
	}
	if err := filelock.Ensure(ctx, stage.Sess, root); err != nil {
		t.Fatal(err)
	}
	put(root.Agents()+"/agent-1", []byte(`{"agent":"agent-1","held":"no space left on device","held_since":"2026-11-27T12:00:00Z"}`))
	put(root.Agents()+"/agent-2", []byte(`{"agent":"agent-2"}`))
	inc := frame.Incarnation{ID: uuid.New(), From: 1}
	head := frame.Begin(inc, 0, nil, "agent-1", time.Unix(1.8e9, 0))
	put(root.Turn(inc.ID, 0), frame.First(inc, uuid.New()).Encode())
	var turns []frame.Turn
	for i := range 4 {
		at := time.Unix(1.8e9+int64(i), 0).UTC()
		turns = append(turns, head.Next(frame.Header{Agent: "agent-2", Token: 1, At: at}, uuid.New(), [][]byte{{'x'}}))
		if i < 3 { // the last is committed only after head was read
			head = head.After(turns[i].Header, len(turns[i].Bytes))
		}
		if i > 0 {
			put(root.Turn(inc.ID, uint64(i+1)), turns[i].Encode())
		}
	}
	put(root.Turn(uuid.New(), 3), nil)
	put(root.Head(), head.Encode())
	s, err := Look(ctx, stage.Sess, root, "stage")
	if err != nil || *s.Head != head || len(s.Agents) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	if a, b := s.Agents[0], s.Agents[1]; a.Held != "no space left on device" || a.HeldSince == nil || b.Held != "" || b.HeldSince != nil {
		t.Errorf("%+v, %+v", a, b)
	}
	if u := s.Turns; u.Count != 2 || u.Oldest != 2 || u.Agent != "agent-2" || !u.Since.Equal(turns[1].Header.At) || u.Trouble != "" {
		t.Errorf("%+v", u)
	}
	if _, err := stage.Sess.Set(ctx, root.Turn(inc.ID, 2), []byte("altered"), -1); err != nil {
		t.Fatal(err)
	}
	if s, err := Look(ctx, stage.Sess, root, "stage"); err != nil || s.Turns.Count != 2 || s.Turns.Oldest != 2 || s.Turns.Trouble == "" {
		t.Errorf("%+v, %v", s.Turns, err)
	}
}
