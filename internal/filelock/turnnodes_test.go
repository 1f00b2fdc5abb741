package filelock_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestListTurnsInOrderAndNothingElse(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	other := "1f0c2e3a-0000-4000-8000-00000000000a"
	id := incarnation.ID.String()
	for _, name := range []string{
		id + "-10", id + "-9", id + "-0", id + "-18446744073709551615", other + "-11", other + "-2",
		// None of these is a name that we give.
		"x", id, id + "-", id + "--1", id + "-+1", id + "-01", id + "-1x", id + "-18446744073709551616",
		strings.ToUpper(id) + "-3", strings.ReplaceAll(id, "-", "") + "-3", id + "_4", "{" + id + "}-4", "urn:uuid:" + id + "-5",
	} {
		f.make(f.root.Turns()+"/"+name, "")
	}
	got, err := filelock.ListTurns(background(t), f.sess, f.root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range got {
		names = append(names, fmt.Sprint(n.Incarnation, "-", n.Number))
	}
	want := []string{other + "-2", other + "-11", id + "-0", id + "-9", id + "-10", id + "-18446744073709551615"}
	if !slices.Equal(names, want) {
		t.Errorf("listed %v, want %v", names, want)
	}
	none, err := filelock.ListTurns(background(t), f.sess, f.root+"-none")
	if err != nil || none != nil {
		t.Errorf("of a fleet that is not there: %v, %v", none, err)
	}
}

// aTurn is a turn that was committed, and its name.
func aTurn(f *fleet) (frame.Turn, filelock.TurnName) {
	f.t.Helper()
	f.setHead("before")
	hold := f.member("a").hold()
	turn := turn(hold, "one")
	if _, err := hold.Commit(background(f.t), filelock.Commit{Turn: turn}); err != nil {
		f.t.Fatal(err)
	}
	return turn, filelock.TurnName{Incarnation: turn.Incarnation, Number: turn.Number}
}

func TestAnAlteredTurnIsNotBelieved(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	turn, name := aTurn(f)
	f.wantTurn(turn)
	whole := turn.Encode()
	alter := func(of filelock.TurnName, what string, data []byte) {
		node := f.root.Turn(of.Incarnation, of.Number)
		if _, err := f.sess.Multi(background(t), &zk.SetDataRequest{Path: node, Data: data, Version: -1}); err != nil {
			t.Fatal(err)
		}
		_, err := filelock.ReadTurn(background(t), f.sess, f.root, of)
		var altered *filelock.TurnError
		if !errors.As(err, &altered) || altered.Node != node || errors.Is(err, filelock.ErrNoTurn) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Where it belongs, and whose it is, is for the caller to compare.
	line, _, _ := bytes.Cut(whole, []byte("\n"))
	free := map[int]bool{}
	for _, field := range []string{" before=", " offset=", " run="} {
		for at := bytes.Index(line, []byte(field)) + len(field); at < len(line) && line[at] != ' '; at++ {
			free[at] = true
		}
	}
	for at := range whole {
		if flipped := bytes.Clone(whole); !free[at] {
			flipped[at] ^= 1
			alter(name, fmt.Sprint("byte ", at, " flipped"), flipped)
		}
	}
	for n := range len(whole) {
		alter(name, fmt.Sprint("cut to ", n), whole[:n])
	}
	alter(name, "longer", append(bytes.Clone(whole), 'x'))
	alter(name, "of another edition", bytes.Replace(whole, []byte("turn 2 "), []byte("turn 3 "), 1))
	if _, err := filelock.ReadTurn(background(t), f.sess, f.root, name); !errors.Is(err, frame.ErrFormat) {
		t.Errorf("of another edition: %v", err)
	}
	for what, of := range map[string]filelock.TurnName{
		"under another number":      {Incarnation: name.Incarnation, Number: 2},
		"under another incarnation": {Incarnation: uuid.MustParse("1f0c2e3a-0000-4000-8000-00000000000a"), Number: 1},
		"under the number 0":        {Incarnation: name.Incarnation, Number: 0},
	} {
		f.make(f.root.Turn(of.Incarnation, of.Number), "")
		alter(of, what, whole)
	}
}

// Not to be allowed to read a turn, or not to reach ZooKeeper, says nothing about whether
// it is there.
func TestOnlyNoNodeMeansThatThereIsNoTurn(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	turn, name := aTurn(f)
	missing := name
	missing.Number++
	_, err := filelock.ReadTurn(background(t), f.sess, f.root, missing)
	is(t, "a turn that is not there", err, filelock.ErrNoTurn)

	secret, err := session.Dial(background(t), session.Options{
		Servers: []string{f.addr}, Timeout: 20 * time.Second, Digest: "fleet:secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(secret.Close)
	if _, err := secret.Create(background(t), f.root.Turn(missing.Incarnation, missing.Number), turn.Encode(), 0); err != nil {
		t.Fatal(err)
	}
	_, err = filelock.ReadTurn(background(t), f.sess, f.root, missing)
	is(t, "a turn that we may not read", err, zk.ErrNoAuth)
	var altered *filelock.TurnError
	if errors.Is(err, filelock.ErrNoTurn) || errors.As(err, &altered) {
		t.Errorf("a turn that we may not read: %v", err)
	}
	_, err = filelock.ReadTurn(background(t), secret, f.root, missing)
	if !errors.As(err, &altered) { // for it has another's number
		t.Errorf("a turn that we may read: %v", err)
	}
	gone := f.member("gone").sess
	gone.Close()
	if _, err = filelock.ReadTurn(background(t), gone, f.root, name); !errors.Is(err, session.ErrClosed) || errors.Is(err, filelock.ErrNoTurn) {
		t.Errorf("without a session: %v", err)
	}
	if _, err = filelock.ListTurns(background(t), gone, f.root); !errors.Is(err, session.ErrClosed) {
		t.Errorf("list without a session: %v", err)
	}
}

func TestDropTurns(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]bool{"answered": false, "its answers lost": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			m := f.member("a")
			nodes := f.drops(5)
			is(t, "delete", f.sess.Delete(background(t), nodes[2]), nil)
			if lose {
				var asked int
				m.proxy.OnRequest(func(p []byte) bool { // one after the other
					if op := zktest.Op(p); op == zktest.OpMulti || op == zktest.OpDelete {
						if asked++; asked%2 == 1 {
							m.proxy.LoseAnswer()
						}
					}
					return true
				})
			}
			is(t, "drop", filelock.DropTurns(background(t), m.sess, nodes[:4]), nil)
			f.wantTurns(104)
			is(t, "drop again", filelock.DropTurns(background(t), m.sess, nodes[:4]), nil)
			is(t, "drop none", filelock.DropTurns(background(t), m.sess, nil), nil)
		})
	}
}

// So many nodes cost one round trip; only when one is refused they go one by one.
func TestDropTurnsIsOneTransaction(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a")
	var multis, singles atomic.Int32
	m.proxy.OnRequest(func(p []byte) bool {
		switch zktest.Op(p) {
		case zktest.OpMulti:
			multis.Add(1)
		case zktest.OpDelete:
			singles.Add(1)
		}
		return true
	})
	nodes := f.drops(64)
	is(t, "drop", filelock.DropTurns(background(t), m.sess, nodes), nil)
	f.wantTurns()
	if multis.Load() != 1 || singles.Load() != 0 {
		t.Errorf("%d transactions and %d requests were sent", multis.Load(), singles.Load())
	}
}
