package verify

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// damage is what an operator made of a valid file, the witnesses it is held against,
// and what the verifier has to say first.
type damage struct {
	data   []byte
	head   *frame.Head
	wiped  bool         // ZooKeeper is asked for head and has none
	known  *frame.Head  // a head that was seen before
	nodes  []frame.Turn // that ZooKeeper has
	doubts []error
	acks   []byte // an acknowledgement log,
	log    string // and where to write it

	kind     Kind
	turn     uint64 // which it names; 0 when that is open
	from, to int    // where it is
}

// toldAt is damage that is told at one place.
func toldAt(at int, kind Kind, turn uint64, data []byte) damage {
	return damage{data: data, kind: kind, turn: turn, from: at, to: at}
}

// operator damages a valid file; false when it has no place in this file, or when the
// bytes that come out have another explanation that is as good.
type operator func(r *rand.Rand, h *history) (damage, bool)

var operators = []struct {
	name string
	do   operator
}{
	{"corrupt: a byte of a record changed", recordFlipped},
	{"corrupt: a byte of a header changed", headerFlipped},
	{"corrupt: two records of a turn swapped", recordsSwapped},
	{"corrupt: the last bytes zeroed", endZeroed},
	{"missing: turns gone", turnsGone},
	{"missing: a header gone", headerGone},
	{"duplicated: a turn again", turnAgain},
	{"duplicated: a record again", recordAgain},
	{"duplicated: a header again", headerAgain},
	{"duplicated: a record acknowledged twice", acknowledgedTwice},
	{"reordered: two turns swapped", turnsSwapped},
	{"reordered: a token that falls", tokenFalls},
	{"torn: cut in its last turn", cutInTurn},
	{"torn: the end of a turn gone", endGone},
	{"torn: a record gone", recordGone},
	{"torn: zeros where the next turn would be", zerosBehind},
	{"interleaved: another's line in a turn", foreignRecord},
	{"interleaved: two turns through each other", turnsMixed},
	{"interleaved: a record moved to another turn", recordMoved},
	{"lost: cut where a turn ends", cutBetweenTurns},
	{"lost: an acknowledged turn cut off", acknowledgedCutOff},
	{"lost: another record acknowledged", otherAcknowledged},
	{"mismatch: ZooKeeper wiped", wiped},
	{"mismatch: ZooKeeper restored, and a later head was seen", headRestored},
	{"mismatch: another file's head", foreignHead},
	{"mismatch: another file's log", foreignLog},
	{"mismatch: a turn's node that was altered", nodeAltered},
	{"lost: a turn that is in ZooKeeper alone is acknowledged", acknowledgedTooEarly},
	{"corrupt: other bytes where an unwritten turn belongs", otherBytesThanCommitted},
	{"uncommitted: a tail behind head", tailBehindHead},
}

// Each kind of damage, done to files of all shapes, is called by its name, and the
// first thing that is told is what happened, where, and to which turn.
func TestEveryKindIsNamed(t *testing.T) {
	for _, op := range operators {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			each(t, op.do, shapedRecord, 500, func(d damage) error {
				first := d.judged(t)
				if first.Kind != d.kind || first.Offset < int64(d.from) || first.Offset > int64(d.to) || d.turn != 0 && first.Turn != d.turn {
					return fmt.Errorf("want %s of turn %d at byte %d to %d first", d.kind, d.turn, d.from, d.to)
				}
				return nil
			})
		})
	}
}

// Records that imitate what the file is made of, down to the sum that the next turn
// would go on from, may mislead the verifier about what happened, never about whether.
func TestImitationsHideNothing(t *testing.T) {
	for _, op := range operators {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			each(t, op.do, imitation, 200, func(d damage) error {
				first := d.judged(t)
				if first.Kind == "" && d.bare() && rewritten(d.data) == nil {
					return nil // the imitations make a valid file without the rest
				}
				if first.Kind == "" || d.kind != Uncommitted && first.Kind == Uncommitted || first.Kind == Unwritten {
					return fmt.Errorf("want %s", d.kind)
				}
				return nil
			})
		})
	}
}

// bare reports whether the file is judged by itself.
func (d damage) bare() bool { return d.head == nil && !d.wiped && d.known == nil && d.acks == nil }

// Whatever its shape and whatever its records say, a valid file passes: by itself, with
// its head, and with the log of each agent, whose every record is found.
func TestValidFilesOfAnyShapePass(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 22))
		record := shapedRecord
		if seed%2 == 1 {
			record = imitation
		}
		h := shaped(r, record)
		agent := pick(r, h.turns).Agent
		var records int64
		for _, w := range h.turns {
			if w.Agent == agent {
				records += int64(w.Lines)
			}
		}
		if err := os.WriteFile(log, acksOf(agent, h.turns), 0o600); err != nil {
			t.Fatal(err)
		}
		wantFine(t, verifying(t, h.data, nil))
		report := verifying(t, h.data, &h.head, log)
		wantFine(t, report)
		if report.Acknowledged != records || int(report.Turns) != len(h.turns) {
			t.Errorf("%d of %d records acknowledged, %d of %d turns", report.Acknowledged, records, report.Turns, len(h.turns))
		}
		if t.Failed() {
			t.Fatalf("seed %d\n%.4000s", seed, h.data)
		}
	}
}

// each judges damage until there were n files that had a place for it.
func each(t *testing.T, do operator, record func(*rand.Rand, *history) string, n int, judge func(damage) error) {
	log := filepath.Join(t.TempDir(), "log")
	for seed, done := uint64(0), 0; done < n; seed++ {
		if seed > 100*uint64(n) {
			t.Fatalf("only %d files in %d have a place for it", done, seed)
		}
		r := rand.New(rand.NewPCG(seed, 21))
		d, ok := do(r, shaped(r, record))
		if !ok {
			continue
		}
		done++
		d.log = log
		if err := judge(d); err != nil {
			report, _ := d.verified(t)
			t.Fatalf("seed %d: %v, got%s\n%.4000s", seed, err, told(report), d.data)
		}
	}
}

// judged is what is told first: a fault, or else a note.
func (d damage) judged(t *testing.T) Finding {
	r, err := d.verified(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(r.Findings, r.Notes...) {
		return f
	}
	return Finding{}
}

func (d damage) verified(t *testing.T) (Report, error) {
	opt := Options{Known: d.known}
	if d.head != nil || d.wiped {
		opt.Head = func(context.Context) (*frame.Head, error) { return d.head, nil }
		opt.Turns = func(context.Context, frame.Head) ([]frame.Turn, []error, error) { return d.nodes, d.doubts, nil }
	}
	if d.acks != nil {
		if err := os.WriteFile(d.log, d.acks, 0o600); err != nil {
			return Report{}, err
		}
		opt.Acks = []string{d.log}
	}
	return Reader(t.Context(), bytes.NewReader(d.data), int64(len(d.data)), opt)
}
