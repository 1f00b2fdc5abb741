package adopt

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
)

func TestRun_zooKeeperWasWiped(t *testing.T) {
	f := newFleet(t)
	f.commit("1", "2", "3")
	f.written(1, 3)
	f.delete(f.root.Head())
	r := f.adopt()
	if head := f.wantGood(); r.Head != head || head.Turn != 3 || head.Queue != 1 || head.Incarnation == f.head.Incarnation {
		t.Errorf("head is %s", head.Encode())
	}
	if f.records() != "1 2 3" || f.names() != "data.txt data.txt.was" || f.only("was") != f.text(1, 3) || r.Was == "" {
		t.Errorf("%s; %s; was %q", f.records(), f.names(), r.Was)
	}
}

func TestRun_zooKeeperWentBack(t *testing.T) {
	f := newFleet(t)
	f.commit("1", "2")
	old := f.head
	f.commit("3", "4")
	f.written(1, 4)
	f.node(f.root.Head(), old.Encode())
	r := f.adopt()
	if f.records() != "1 2 3 4" || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "turns 3 to 4") {
		t.Errorf("%s; %v", f.records(), r.Notes)
	}
}

// Turns behind head may have been acknowledged: they are not put aside with what is wrong.
func TestRun_zooKeeperWentBackAndTheFileIsDamagedBehind(t *testing.T) {
	f := newFleet(t)
	f.commit("1", "2")
	old := f.head
	f.commit("3", "4")
	f.written(1, 4)
	f.node(f.root.Head(), old.Encode())
	damaged := []byte(f.content(f.path))
	damaged[len(f.text(1, 2))+8] ^= 1
	f.must(os.WriteFile(f.path, damaged, 0o644))
	before := f.state()
	if _, err := Run(f.ctx, f.options()); !errors.As(err, new(*FaultsError)) || f.state() != before {
		t.Errorf("%v", err)
	}
}

func TestRun_writesWhatOnlyZooKeeperHas(t *testing.T) {
	f := newFleet(t)
	f.commit("1", "2", "3", "4")
	f.written(1, 2)
	f.put(strings.Repeat("\x00", 30) + string(f.turns[2].Bytes[30:])) // a hole, after a power loss
	if r := f.adopt(); f.records() != "1 2 3 4" || len(r.Saved)+len(r.Notes) > 0 {
		t.Errorf("%s; %v", f.records(), r)
	}
}

func TestRun_emptyFileIsMadeFromNodes(t *testing.T) {
	f := newFleet(t)
	first := frame.Turn{Incarnation: f.head.Incarnation, Run: uuid.New(), Bytes: []byte(f.line)}
	f.node(f.root.Turn(f.head.Incarnation, 0), first.Encode())
	f.commit("1", "2")
	f.put("")
	if f.adopt(); f.records() != "1 2" {
		t.Errorf("%s", f.records())
	}
}

func TestRun_foreignBytesAreSaved(t *testing.T) {
	for name, c := range map[string]struct {
		before, behind string // what stands where turn 3 belongs, and behind turn 3
	}{
		"behind head":            {"", "oops\n"},
		"where a turn belongs":   {"oops\n", ""},
		"as long as several":     {strings.Repeat("oops\n", 100), ""},
		"without a newline":      {"", "oops"},
		"like a record's header": {"", "#turn 9 "},
		"at both":                {"", "a\nb\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t)
			f.commit("1", "2")
			f.written(1, 2)
			f.commit("3")
			if c.before != "" {
				f.put(c.before)
			} else {
				f.written(3, 3)
				f.put(c.behind)
			}
			r := f.adopt()
			if f.records() != "1 2 3" || len(r.Saved) != 1 || !strings.HasPrefix(f.only("was"), f.text(1, 2)) {
				t.Errorf("%s; %v", f.records(), r)
			}
			// Where it lies over a turn's place, it is saved from there to its end.
			if got := f.only("foreign"); got != c.before+c.behind {
				t.Errorf("saved %q", got)
			}
		})
	}
}

func TestRun_zerosBehindTheEndAreSaid(t *testing.T) {
	f := newFleet(t)
	f.commit("1")
	f.written(1, 1)
	f.put(strings.Repeat("\x00", 100))
	if r := f.adopt(); f.records() != "1" || len(r.Saved) > 0 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "zeros") {
		t.Errorf("%s; %v", f.records(), r)
	}
}

func TestRun_loss(t *testing.T) {
	f := newFleet(t)
	f.commit("1", "2", "3", "4", "5")
	f.written(1, 3) // the node of 4 is gone too, and its bytes: no node reaches the file
	f.delete(f.root.Turn(f.head.Incarnation, 4))
	f.refused("turn 5 was committed")
	r := f.adopt(acceptLoss)
	lost := f.only("lost")
	if f.records() != "1 2 3" || len(r.Saved) != 1 || !strings.Contains(lost, string(f.turns[4].Bytes)) || len(r.Notes) != 1 {
		t.Errorf("%s; %v; lost %q", f.records(), r, lost)
	}
}

func TestRun_anotherTurnOfTheSameSize(t *testing.T) {
	f := newFleet(t)
	f.commit("1")
	other := f.head
	f.commit("2")
	f.written(1, 2)
	h := frame.Header{Agent: "b", Token: 2, At: f.head.At}
	two := other.Next(h, uuid.New(), [][]byte{[]byte("x")})
	if len(two.Bytes) != len(f.turns[1].Bytes) {
		t.Fatal("it is not of the same size")
	}
	f.node(f.root.Head(), other.After(two.Header, len(two.Bytes)).Encode())
	f.node(f.root.Turn(two.Incarnation, 2), two.Encode())
	f.refused("turn 2 was committed")
	if f.adopt(acceptLoss); f.records() != "1 2" || !strings.Contains(f.only("lost"), string(two.Bytes)) {
		t.Errorf("%s", f.records())
	}
}

func TestRun_wrongFile(t *testing.T) {
	f := newFleet(t)
	f.commit("1")
	f.written(1, 1)
	f.must(os.WriteFile(f.path, []byte("another log\n"), 0o644))
	f.refused("turn 1 was committed")
}

func TestRun_nothingToAdopt(t *testing.T) {
	f := newFleet(t)
	f.refused("nothing to adopt")
	f.commit("1")
	f.refused("nothing to adopt", acceptLoss)
}

func TestRun_preamble(t *testing.T) {
	f := newFleet(t)
	f.put("an old line\nwithout its end")
	f.refused("does not end with a newline")
	f.put("\n")
	if head := f.adopt().Head; head.Turn != 0 || !strings.HasPrefix(f.content(f.path), "an old line\nwithout its end\n#turnstile 1 ") {
		t.Errorf("%q", f.content(f.path))
	}
}

func TestRun_faults(t *testing.T) {
	f := newFleet(t)
	f.commit("1", "2", "3")
	f.written(1, 3)
	damaged := []byte(f.content(f.path))
	damaged[len(f.text(1, 1))+8] ^= 1
	f.must(os.WriteFile(f.path, damaged, 0o644))
	before := f.state()
	var faults *FaultsError
	if _, err := Run(f.ctx, f.options(acceptLoss)); !errors.As(err, &faults) || faults.Report.OK() || f.state() != before {
		t.Errorf("%v; it was %s", err, before)
	}
	if head := f.adopt(asPreamble).Head; head.Turn != 0 || !strings.HasPrefix(f.content(f.path), string(damaged)) {
		t.Errorf("head is %s", head.Encode())
	}
}

// Without a head, bytes behind the last turn may be one whose header is gone.
func TestRun_withoutHeadOnlyAnUnfinishedEndIsPutAside(t *testing.T) {
	f := newFleet(t)
	f.commit("1", "2")
	f.written(1, 2)
	f.delete(f.root.Head())
	whole := f.content(f.path)
	for end, adopted := range map[string]bool{"oops\n": false, "oops": true, string(f.turns[1].Bytes[:70]): true} {
		f.must(os.WriteFile(f.path, []byte(whole+end), 0o644))
		_, err := Run(f.ctx, f.options(func(o *Options) { o.Root += filelock.Root("-" + uuid.NewString()) }))
		if (err == nil) != adopted || !adopted && !errors.As(err, new(*FaultsError)) {
			t.Errorf("%q: %v", end, err)
		}
	}
}

func TestRun_nodeThatCannotBeBelieved(t *testing.T) {
	f := newFleet(t)
	f.commit("1", "2")
	f.written(1, 1)
	altered := slices.Clone(f.turns[1].Encode())
	altered[len(altered)-2] ^= 1
	node := f.root.Turn(f.head.Incarnation, 2)
	f.node(node, altered)
	f.refused("turn 2 was committed")
	r := f.adopt(acceptLoss)
	if f.records() != "1" || !strings.Contains(f.only("lost"), string(altered)) || len(r.Saved) != 1 || !strings.Contains(r.Saved[0], node) {
		t.Errorf("%s; %v", f.records(), r)
	}
}

func TestRun_nodeThatNobodyCommitted(t *testing.T) {
	f := newFleet(t)
	f.commit("1")
	head := f.head
	f.commit("2")
	f.node(f.root.Head(), head.Encode())
	f.written(1, 1)
	if f.adopt(); f.records() != "1" || !strings.Contains(f.only("lost"), string(f.turns[1].Bytes)) {
		t.Errorf("%s", f.records())
	}
}

func TestRun_nodeThatMayNotBeRead(t *testing.T) {
	f := newFleet(t)
	f.commit("1", "2")
	f.written(1, 1)
	node := f.root.Turn(f.head.Incarnation, 2)
	f.delete(node)
	_, err := f.sess.Multi(f.ctx, &zk.CreateRequest{Path: node, Data: f.turns[1].Encode(), Acl: zk.DigestACL(zk.PermAll, "other", "secret")})
	f.must(err)
	before := f.state()
	if _, err := Run(f.ctx, f.options(acceptLoss)); !errors.Is(err, zk.ErrNoAuth) || !strings.Contains(err.Error(), node) || f.state() != before {
		t.Errorf("%v", err)
	}
}

func TestRun_headThatCannotBeRead(t *testing.T) {
	f := newFleet(t)
	f.commit("1")
	f.written(1, 1)
	f.node(f.root.Head(), []byte("head 3 incarnation=…"))
	f.refused("newer program", acceptLoss)
	f.node(f.root.Head(), []byte("rubbish"))
	f.refused("cannot be read")
	if f.adopt(acceptLoss); f.records() != "1" {
		t.Errorf("%s", f.records())
	}
}
