package filelock_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// Who adopts has its turn whatever stands in head, and replaces that at its version; an
// agent does not.
func TestNewAdopter_headOfAnotherEdition(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"incarnation":"x"}`, "rubbish"} {
		f := newFleet(t)
		sess := f.dial(f.addr, 20*time.Second)
		if _, err := sess.Create(background(t), f.root.Head(), []byte(text), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := filelock.New(sess, f.root, filelock.Member{Agent: "a"}, nil, nil).Join(background(t)); err == nil {
			t.Errorf("%q: an agent joined", text)
		}
		place, err := filelock.NewAdopter(sess, f.root, filelock.Member{Agent: "adopt"}, nil).Join(background(t))
		if err != nil {
			t.Fatal(err)
		}
		hold, err := place.Wait(background(t))
		if err != nil || hold.Version() != 0 {
			t.Fatalf("%q: version %d, %v", text, hold.Version(), err)
		}
		head := frame.Begin(frame.Incarnation{ID: uuid.New(), From: 1}, 0, nil, "adopt", time.Now())
		if err := hold.Publish(background(t), head); err != nil || hold.Version() != 1 {
			t.Errorf("%q: version %d, %v", text, hold.Version(), err)
		}
		hold.Release()
		if got, version, err := filelock.ReadHead(background(t), sess, f.root); err != nil || got != head || version != 1 {
			t.Errorf("%q: %v, version %d, %v", text, got, version, err)
		}
	}
}

func TestHold_Version_withoutHead(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	place, err := filelock.NewAdopter(f.sess, f.root, filelock.Member{Agent: "adopt"}, nil).Join(background(t))
	if err != nil {
		t.Fatal(err)
	}
	hold, err := place.Wait(background(t))
	if err != nil || hold.Version() != -1 {
		t.Fatalf("version %d, %v", hold.Version(), err)
	}
	hold.Release()
	if _, _, err := filelock.ReadHead(background(t), f.sess, f.root); !errors.Is(err, filelock.ErrNoHead) {
		t.Errorf("%v", err)
	}
}
