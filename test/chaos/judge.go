package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/session"
)

// kind is one way to make a fleet suffer.
type kind struct {
	name string
	row  int    // of the fault matrix
	what string // happens, and must hold
	run  func(*round) error

	servers bool // it does something to the servers: they must be ours
	root    bool // it must be root
	edits   bool // somebody changes the file, or puts another in its place: nobody can follow it
}

// result is what became of a round.
type result struct {
	Kind    string         `json:"kind"`
	Seed    uint64         `json:"seed"`
	Verdict string         `json:"verdict"` // fine, rejected, failed
	Why     string         `json:"why,omitempty"`
	Fired   int            `json:"fired"`
	Steps   map[string]int `json:"steps"`
	Turns   int            `json:"turns"` // acknowledged
	Records int            `json:"records"`
	Acks    int            `json:"acknowledged"` // records
	Missing int            `json:"missing"`
	Doubled int            `json:"doubled"`
	Seconds float64        `json:"seconds"`
	Kept    string         `json:"kept,omitempty"` // where its files are
}

const (
	fine        = "fine"
	wasRejected = "rejected"
	failed      = "FAILED"
)

// leastTurns is what a fleet must have written for a round to count.
const leastTurns = 20

// play runs a round from its beginning to its verdict.
func (r *round) play() (res result) {
	began := time.Now()
	res = result{Kind: r.kind.name, Seed: r.seed, Verdict: fine}
	var reader *reader
	if !r.kind.edits {
		reader = follow(r.ctx, r.data())
	}
	err := r.kind.run(r)
	if err == nil {
		err = r.finish()
	}
	if err == nil {
		err = r.settleAll()
	}
	if reader != nil {
		if seen := reader.end(); r.ctx.Err() == nil {
			err = errors.Join(err, seen)
		}
	}
	broken := err != nil
	if broken && r.ctx.Err() == nil { // in the middle of a fault
		err = errors.Join(err, r.heal(r.ctx))
	}
	v, judged := r.judged(broken)
	switch {
	case r.ctx.Err() != nil:
	case errors.Is(err, errRejected) && judged != nil:
		err = judged // a violation counts, whatever the round was worth
	default:
		err = errors.Join(err, judged)
	}
	for _, s := range r.slots {
		_, turns, _ := s.tail.look()
		res.Turns += turns
	}
	if err == nil && r.fired == 0 {
		err = rejected("the fault never fired")
	}
	if err == nil && res.Turns < leastTurns {
		err = rejected("the fleet hardly wrote: %d turns", res.Turns)
	}
	res.Fired, res.Steps = r.fired, r.steps
	res.Records, res.Acks, res.Missing, res.Doubled = v.records, v.acks, v.missing, v.doubled
	res.Seconds = time.Since(began).Seconds()
	switch {
	case err == nil:
	case r.ctx.Err() != nil:
		res.Verdict, res.Why = wasRejected, "interrupted"
	case errors.Is(err, errRejected):
		res.Verdict, res.Why = wasRejected, err.Error()
	default:
		res.Verdict, res.Why = failed, err.Error()
	}
	return res
}

// settleAll has what agents left that were refused, or killed last, written to the file.
func (r *round) settleAll() error {
	if r.settledNow() {
		return nil
	}
	s := r.add(true)
	if err := r.spawn(s); err != nil {
		return err
	}
	s.now.feed.pause()
	if err := r.settled(); err != nil {
		return fmt.Errorf("%w; the end of its log: %s", err, s.now.lastWords())
	}
	s.now.leaving = true
	s.now.feed.end()
	if code, err := s.now.exits(r.ctx, patience); err != nil || code != exitFine {
		return errors.Join(err, fmt.Errorf("%s ended with %d; the end of its log: %s", s.now.id, code, s.now.lastWords()))
	}
	return nil
}

// settledNow tells whether no turn is left in ZooKeeper.
func (r *round) settledNow() (is bool) {
	err := r.with(func(ctx context.Context, sess *session.Session) error {
		left, err := filelock.ListTurns(ctx, sess, r.root())
		is = len(left) == 0
		return err
	})
	return is && err == nil
}

// judged holds the file to what was fed and acknowledged, once by the project's
// verifier and once by our own oracle. In a round that broke off some still run.
func (r *round) judged(broken bool) (verdict, error) {
	if broken {
		for _, s := range r.slots { // those that were to leave as well
			if s.now != nil {
				s.now.kill()
			}
		}
		// What was committed last may be in ZooKeeper alone. Where somebody edited the file,
		// nobody may be able to write it.
		if err := r.settleAll(); err != nil && !r.kind.edits {
			return verdict{}, err
		}
	}
	head, err := r.head()
	if err != nil || head == nil {
		return verdict{}, err // nothing was ever written
	}
	given := map[string]int{}
	for id, feed := range r.processes {
		given[id] = feed.given()
	}
	tails := map[string]*ackTail{}
	for _, s := range r.slots {
		tails[s.name] = s.tail
	}
	v, err := judge(r.data(), head.Offset, given, tails)
	if err != nil {
		return v, err
	}
	if len(v.faults) > 0 {
		return v, fmt.Errorf("the oracle: %s", strings.Join(v.faults, "; "))
	}
	if uint64(v.turns) != head.Turn {
		return v, fmt.Errorf("the oracle: head is at turn %d, the file at %d", head.Turn, v.turns)
	}
	_, err = r.mustAgent("verify", r.data(), "--acks", filepath.Join(r.dir, "acks"))
	return v, err
}

// prefix is the hash of the file's first bytes.
func (r *round) prefix(size int64) ([32]byte, error) {
	data, err := os.ReadFile(r.data())
	if err != nil {
		return [32]byte{}, err
	}
	if int64(len(data)) < size {
		return [32]byte{}, fmt.Errorf("the file has %d bytes, and %d were committed", len(data), size)
	}
	return sha256.Sum256(data[:size]), nil
}

// whole is the hash of the file; that of nothing when there is none.
func whole(path string) ([32]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return [32]byte{}, nil
	}
	return sha256.Sum256(data), err
}

// unchanged makes sure that the file is what it was.
func unchanged(path string, before [32]byte) error {
	now, err := whole(path)
	if err == nil && now != before {
		err = fmt.Errorf("%s was changed, though everybody refused", path)
	}
	return err
}
