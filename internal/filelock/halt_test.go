package filelock_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/zktest"
)

func TestAHaltIsSeenByWhoeverIsNext(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b, c := f.member("a"), f.member("b"), f.member("c")
	if err := filelock.CheckHalt(background(t), f.sess, f.root); err != nil {
		t.Fatal(err)
	}
	hold := a.hold()
	waits := []<-chan outcome{b.waits(b.join()), c.waits(c.join())}
	before := time.Now().Add(-time.Minute)
	if err := hold.Halt("fdatasync: EIO"); err != nil {
		t.Fatal(err)
	}
	for _, w := range waits {
		got := f.get(w)
		var halted *filelock.HaltedError
		if !errors.As(got.err, &halted) || !errors.Is(got.err, filelock.ErrHalted) {
			t.Fatalf("%s: %v, want a halt", got.who.name, got.err)
		}
		if halted.Why != "fdatasync: EIO" || halted.Who != "a on test" || halted.When.Before(before) {
			t.Errorf("%+v", halted)
		}
		if !strings.Contains(got.err.Error(), "EIO") || got.hold != nil {
			t.Errorf("%v, hold %v", got.err, got.hold)
		}
	}
	f.wantAgents("")
	was, err := filelock.Resume(background(t), f.sess, f.root)
	if err != nil || was == nil || was.Why != "fdatasync: EIO" {
		t.Fatalf("resume: %+v, %v", was, err)
	}
	if was, err := filelock.Resume(background(t), f.sess, f.root); was != nil || err != nil {
		t.Errorf("resume again: %+v, %v", was, err)
	}
	b.hold()
}

// The order on the wire: first the halt, then the place is given up.
func TestAHaltComesBeforeThePlaceIsGivenUp(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.member("a")
	hold := a.hold()
	var order []int32
	a.proxy.OnRequest(func(p []byte) bool {
		switch op := zktest.Op(p); op {
		case zktest.OpCreate:
			if order = append(order, op); len(order) == 1 {
				return false // and its loss makes no difference
			}
		case zktest.OpDelete:
			order = append(order, op)
		}
		return true
	})
	if err := hold.Halt("why"); err != nil {
		t.Fatal(err)
	}
	a.proxy.OnRequest(nil)
	if len(order) != 3 || order[1] != zktest.OpCreate || order[2] != zktest.OpDelete {
		t.Errorf("sent %v", order)
	}
	is(t, "halt", filelock.CheckHalt(background(t), f.sess, f.root), filelock.ErrHalted)
	f.wantAgents("")
}

func TestAHaltMadeByHand(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for _, data := range []string{"", "disk is full", "{}", "null", `{"why":1}`} {
		if _, err := f.sess.Create(background(t), f.root.Halt(), []byte(data), 0); err != nil {
			t.Fatal(err)
		}
		err := filelock.CheckHalt(background(t), f.sess, f.root)
		is(t, "check", err, filelock.ErrHalted)
		if data == "disk is full" && !strings.Contains(err.Error(), data) {
			t.Errorf("%v does not say why", err)
		}
		_, err = f.member("a").join().Wait(background(t))
		is(t, "wait", err, filelock.ErrHalted)
		if was, err := filelock.Resume(background(t), f.sess, f.root); err != nil || was == nil {
			t.Errorf("resume %q: %v, %v", data, was, err)
		}
	}
}

func TestAHaltWithoutASessionSaysThatItFailed(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.member("a")
	hold := a.hold()
	a.proxy.Refuse(true)
	start := time.Now()
	if err := hold.Halt("why"); err == nil {
		t.Error("no error, no halt")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if hold.Err() == nil {
		t.Error("the hold lasts")
	}
}
