package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/session"
)

// guid begins the name of a place.
func (r *round) guid() string {
	return fmt.Sprintf("%016x%016x", r.rng.Uint64(), r.rng.Uint64())
}

// status is `agent status --json`, as a user has it.
func (r *round) status() (s fleet.Status, err error) {
	out, err := r.mustAgent("status", "--json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &s)
}

// foreignNodes: row 17. What is no place is ignored and reported; a place that belongs
// to no session blocks, says so, and can be evicted.
func foreignNodes(r *round) error {
	if err := r.working(1, 3); err != nil {
		return err
	}
	names := []string{"foreign", "lock-0000000000", r.guid(), r.guid() + "-", r.guid() + "-00000000x1",
		r.guid() + "-1", strings.ToUpper(r.guid()) + "-0000000000", "ünïcode-0000000001", r.guid() + "-00000000001"}
	r.rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	names = names[:4]
	marks := r.marks()
	err := r.with(func(ctx context.Context, sess *session.Session) error {
		for _, name := range names {
			_, err := sess.Create(ctx, path.Join(r.root().Queue(1), name), []byte("{rubbish"), 0)
			if err != nil && !errors.Is(err, zk.ErrNodeExists) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := r.progress(3); err != nil {
		return err
	}
	s, err := r.status()
	if err != nil {
		return err
	}
	if len(s.Foreign) != len(names) {
		return fmt.Errorf("agent status tells of foreign nodes %q, and they are %q", s.Foreign, names)
	}
	if err := r.somebodySays(marks, "ignoring a foreign node"); err != nil {
		return err
	}
	for _, name := range names {
		r.fire("foreign node")
		if _, err := r.mustAgent("evict", name); err != nil {
			return err
		}
	}
	if err := r.progress(1); err != nil {
		return err
	}
	return r.ownerless()
}

// marks are the ends of the logs as they are now.
func (r *round) marks() map[*proc]int64 {
	marks := map[*proc]int64{}
	for _, p := range r.live() {
		marks[p] = p.mark()
	}
	return marks
}

// somebodySays waits until one of them says so, behind its mark.
func (r *round) somebodySays(marks map[*proc]int64, words string) error {
	return within(r.ctx, patience, "somebody says "+words, func() bool {
		for p, mark := range marks {
			if p.said(mark, words) {
				return true
			}
		}
		return false
	})
}

// ownerless puts a well-formed place into the queue that goes with no session.
func (r *round) ownerless() error {
	marks := r.marks()
	var place string
	err := r.with(func(ctx context.Context, sess *session.Session) (err error) {
		place, err = sess.Create(ctx, path.Join(r.root().Queue(1), r.guid()+"-"), []byte("rubbish"), zk.FlagSequence)
		return err
	})
	if err != nil {
		return err
	}
	if err := r.somebodySays(marks, "belongs to no session"); err != nil {
		return err
	}
	if _, err := r.mustAgent("evict", path.Base(place)); err != nil {
		return err
	}
	r.fire("place without a session")
	return r.progress(2)
}

// placeDeleted: row 18. While an agent waits, and while it holds.
func placeDeleted(r *round) error {
	if err := r.working(3, 2); err != nil {
		return err
	}
	for range 3 {
		if err := r.deleteWaiting(); err != nil {
			return err
		}
		if err := r.progress(1); err != nil {
			return err
		}
		if err := r.deleteHolding(); err != nil {
			return err
		}
		if err := r.progress(1); err != nil {
			return err
		}
	}
	return nil
}

func (r *round) deleteWaiting() error {
	err := r.with(func(ctx context.Context, sess *session.Session) error {
		return until(ctx, 30*time.Second, func() (bool, error) {
			queue, err := filelock.Look(ctx, sess, r.root())
			if err != nil || len(queue) < 2 {
				return false, err
			}
			victim := queue[1+r.rng.IntN(len(queue)-1)]
			err = sess.Delete(ctx, path.Join(r.root().Queue(1), victim.Place))
			if errors.Is(err, zk.ErrNoNode) {
				return false, nil // it had its turn meanwhile
			}
			return err == nil, err
		})
	})
	if err != nil {
		return orRejected(err)
	}
	r.fire("waiting")
	return nil
}

func (r *round) deleteHolding() error {
	p, e, err := r.holdsBeforeCommit()
	if err != nil {
		return err
	}
	mark := p.mark()
	err = r.with(func(ctx context.Context, sess *session.Session) error {
		queue, err := filelock.Look(ctx, sess, r.root())
		if err != nil {
			return err
		}
		for _, entry := range queue {
			if fmt.Sprintf("0x%x", entry.Token) == e.Token {
				return sess.Delete(ctx, path.Join(r.root().Queue(1), entry.Place))
			}
		}
		return rejected("the holder lost its place by itself")
	})
	if err != nil {
		return err
	}
	if err := p.order(r.ctx, order{Do: "go"}); err != nil {
		return err
	}
	if err := r.notices(p, mark, patience, fencedWords...); err != nil {
		return err
	}
	if err := r.progress(1); err != nil {
		return err
	}
	if there, err := r.inFile(e); err != nil || there {
		return errors.Join(err, fmt.Errorf("turn %d with token %s is committed, though its place was gone before", e.Turn, e.Token))
	}
	r.fire("holding")
	return nil
}

// evicted: row 18 by the command: healthy agents are evicted again and again.
func evicted(r *round) error {
	if err := r.working(0, 4); err != nil {
		return err
	}
	for range 6 {
		out, code, err := r.agent("evict")
		if err != nil {
			return err
		}
		if code == exitFine {
			r.fire("evict")
		} else if !contains(out, "nobody") {
			return fmt.Errorf("agent evict: exit %d: %s", code, out)
		}
		if err := r.progress(1); err != nil {
			return err
		}
	}
	return nil
}

// phantom: row 19. A place whose owner lives and never takes its turn: status tells
// who it is, and it can be evicted; after that it cannot commit.
func phantom(r *round) error {
	if err := r.working(1, 3); err != nil {
		return err
	}
	for range 3 {
		if err := r.with(r.haunt); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

func (r *round) haunt(ctx context.Context, sess *session.Session) error {
	card, err := json.Marshal(filelock.Member{Agent: "phantom", Host: "nowhere", Since: time.Now().UTC()})
	if err != nil {
		return err
	}
	place, err := sess.Create(ctx, path.Join(r.root().Queue(1), r.guid()+"-"), card, zk.FlagEphemeral|zk.FlagSequence)
	if err != nil {
		return err
	}
	var s fleet.Status
	err = until(ctx, patience, func() (bool, error) {
		s, err = r.status()
		return err == nil && s.Holder != nil && s.Holder.Agent == "phantom", err
	})
	if err != nil {
		return fmt.Errorf("agent status tells of the phantom: %w", err)
	}
	if want := fmt.Sprintf("0x%x", sess.ID()); s.Holder.Session != want || s.Holder.Place != path.Base(place) {
		return fmt.Errorf("agent status tells of place %s of session %s; the phantom has %s of %s", s.Holder.Place, s.Holder.Session, path.Base(place), want)
	}
	head, err := sess.Get(ctx, r.root().Head())
	if err != nil {
		return err
	}
	if out, err := r.mustAgent("evict"); err != nil || !contains(out, "phantom") {
		return errors.Join(err, fmt.Errorf("agent evict: %s", out))
	}
	_, err = sess.Multi(ctx, &zk.SetDataRequest{Path: r.root().Head(), Data: head.Data, Version: -1},
		&zk.DeleteRequest{Path: place, Version: -1})
	if !session.Definite(err) {
		return fmt.Errorf("the commit of an evicted phantom: want a refusal, have %w", err)
	}
	r.fire("phantom evicted")
	return nil
}
