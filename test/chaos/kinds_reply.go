package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/session"
)

// lostReply: row 6. The transaction reaches ZooKeeper and is committed; its answer
// never gets back.
func lostReply(r *round) error {
	if err := r.wired(3, 0); err != nil {
		return err
	}
	for i := range 3 {
		p, e, err := r.holdsBeforeCommit()
		if err != nil {
			return err
		}
		mark := p.mark()
		if err := r.poison(p.slot, dropped("downstream")); err != nil {
			return err
		}
		if err := p.order(r.ctx, order{Do: "go"}); err != nil {
			return err
		}
		if err := r.committed(e); err != nil {
			return err
		}
		step := "answer lost, same session"
		switch i {
		case 1: // until another session must settle it
			step = "answer lost, session expired"
			err = r.notices(p, mark, r.timeout+deadlineSlack, "session is over")
		case 2:
			step = "answer lost, then killed"
			p.kill()
			err = nil
		}
		if err != nil {
			return err
		}
		r.fire(step)
		// Cut before the toxic goes, so that nothing that was kept back gets through.
		if err := r.cut(p.slot); err != nil {
			return err
		}
		if err := r.cure(p.slot, dropped("downstream")); err != nil {
			return err
		}
		if err := r.mend(p.slot); err != nil {
			return err
		}
		if i < 2 {
			if err := r.notices(p, mark, patience, "settled: our turn was committed"); err != nil {
				return err
			}
		}
		if err := r.backAtWork(2); err != nil {
			return err
		}
	}
	return nil
}

// lostRequest: row 6, the other half. The transaction never gets there: it must not
// count, and its records must come in another turn.
func lostRequest(r *round) error {
	if err := r.wired(3, 0); err != nil {
		return err
	}
	for range 3 {
		p, e, err := r.holdsBeforeCommit()
		if err != nil {
			return err
		}
		mark := p.mark()
		if err := r.poison(p.slot, dropped("upstream")); err != nil {
			return err
		}
		if err := p.order(r.ctx, order{Do: "go"}); err != nil {
			return err
		}
		if err := r.notices(p, mark, r.timeout+deadlineSlack, "session is over"); err != nil {
			return err
		}
		if err := r.progressOf(r.others(p), 1); err != nil {
			return err
		}
		if there, err := r.inFile(e); err != nil {
			return err
		} else if there {
			return fmt.Errorf("turn %d with token %s is committed, though ZooKeeper was never asked", e.Turn, e.Token)
		}
		r.fire("request lost")
		if err := r.cut(p.slot); err != nil {
			return err
		}
		if err := r.cure(p.slot, dropped("upstream")); err != nil {
			return err
		}
		if err := r.mend(p.slot); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

// holdsBeforeCommit has a child wait, with its frame on disk, before it commits.
func (r *round) holdsBeforeCommit() (*proc, event, error) {
	p, err := r.anyChild()
	if err != nil {
		return nil, event{}, err
	}
	if err := p.arm(r.ctx, failpoint{Name: "commit.before", Nth: 1 + r.rng.IntN(3), Action: actHold}); err != nil {
		return nil, event{}, err
	}
	e, err := p.await(r.ctx, 30*time.Second, "fired")
	return p, e, err
}

// committed waits until the very transaction that e is about has happened.
func (r *round) committed(e event) error {
	err := until(r.ctx, 20*time.Second, func() (bool, error) { return r.inFile(e) })
	if err != nil {
		err = fmt.Errorf("%w: turn %d with token %s is committed", err, e.Turn, e.Token)
	}
	return orRejected(err)
}

// inFile tells whether the turn of e is committed: its node, or the file, has it.
func (r *round) inFile(e event) (is bool, err error) {
	head, err := r.head()
	if err != nil || head == nil || head.Turn < e.Turn {
		return false, err
	}
	err = r.with(func(ctx context.Context, sess *session.Session) error {
		t, err := filelock.ReadTurn(ctx, sess, r.root(), filelock.TurnName{Incarnation: head.Incarnation, Number: e.Turn})
		is = err == nil && t.Header.Token.String() == e.Token
		if errors.Is(err, filelock.ErrNoTurn) {
			return nil
		}
		return err
	})
	if err != nil || is {
		return is, err
	}
	data, err := os.ReadFile(r.data())
	if err != nil {
		return false, err
	}
	turns, err := readTurns(data[:min(head.Offset, int64(len(data)))])
	if uint64(len(turns)) < e.Turn {
		return false, nil // not there yet, or only in part
	}
	return turns[e.Turn-1].token == e.Token, err
}
