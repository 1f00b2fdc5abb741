package writer

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

func TestCopy_SaveForeign(t *testing.T) {
	m, a := adopts(t)
	m.put(memFile, "good oops good oops\x00\x00")
	c, err := a.Copy(context.Background(), 4, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if m.content(a.Next()) != "good" {
		t.Errorf("the copy is %q", m.content(a.Next()))
	}
	name, err := c.SaveForeign(context.Background(), []Range{{5, 10}, {15, 19}})
	if err != nil || m.content(name) != "oops oops" || string(m.live[name].safe) != "oops oops" {
		t.Errorf("saved %q, %v", m.content(name), err)
	}
	for _, r := range []struct {
		from, to, upTo int64
		holds          bool
	}{{19, 21, 4, true}, {18, 21, 4, false}, {21, 30, 4, true}, {4, 4, 4, true}, {0, 4, 4, true}, {0, 4, 3, false}, {0, 5, 9, false}} {
		if holds, err := c.Holds(context.Background(), Range{r.from, r.to}, r.upTo); err != nil || holds != r.holds {
			t.Errorf("holds %v: %v, %v", r, holds, err)
		}
	}
}

func TestCopy_Follows(t *testing.T) {
	m, a := adopts(t)
	i := frame.Incarnation{ID: uuid.New(), From: 1}
	head := frame.Begin(i, 0, nil, "a", time.Now())
	run := uuid.New()
	one := head.Next(frame.Header{Agent: "a", Token: 1, At: time.Now()}, run, [][]byte{[]byte("x")})
	two := head.After(one.Header, len(one.Bytes)).Next(frame.Header{Agent: "a", Token: 2, At: time.Now()}, run, [][]byte{[]byte("y")})
	m.put(memFile, i.Line()+"\n"+string(one.Bytes))
	c, err := a.Copy(context.Background(), -1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	other := two
	other.Prev[0] ^= 1
	early := two
	early.Offset--
	strange := one
	strange.Incarnation = uuid.New()
	for what, want := range map[*frame.Turn]bool{&one: true, &two: true, &other: false, &early: false, &strange: false} {
		if got, err := c.Follows(*what); err != nil || got != want {
			t.Errorf("turn %d at %d follows: %v, %v; want %v", what.Number, what.Offset, got, err, want)
		}
	}
}

func TestCopy_Stands_refusesWhatWasSwapped(t *testing.T) {
	for _, swap := range []func(*memFS, *Adoption){
		func(m *memFS, a *Adoption) { m.put(memFile, "another") },
		func(m *memFS, a *Adoption) { delete(m.live, a.Next()) },
	} {
		m, a := adopts(t)
		c, err := a.Copy(context.Background(), -1, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Stands(); err != nil {
			t.Errorf("it stands: %v", err)
		}
		if swap(m, a); !errors.Is(c.Stands(), ErrRefused) {
			t.Errorf("swapped: %v", c.Stands())
		}
	}
}
