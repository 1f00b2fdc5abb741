package inbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// commit sends one batch's transaction, the very same again and again, across sessions,
// until it is known whether it happened. It can't happen twice: each time it is for the
// same version of our node, which it raises.
func (s *Sender) commit(ctx context.Context, records [][]byte) ([]string, error) {
	late, cancel := lingering(ctx)
	defer cancel()
	s.batch++
	card := s.card()
	doubt := false
	for {
		results, again, err := transact(late, s.sess, s.operations(card, records)...)
		doubt = doubt || again
		switch {
		case err == nil:
			s.at++
			return s.names(late, results[1:])
		case !session.Definite(err): // lost with the connection, or with the session
			doubt = true
			if late.Err() == nil {
				err = s.enterAgain(late, err)
			}
			if err != nil {
				return nil, &DoubtError{len(records), err}
			}
		case !doubt && errors.Is(err, zk.ErrNodeExists):
			return nil, ErrExhausted
		case !doubt && errors.Is(err, zk.ErrNoNode) && refused(results, 0):
			// Whoever removed our node, nothing was sent.
			if err := s.make(late); err != nil {
				return nil, err
			}
		case !doubt:
			return nil, fmt.Errorf("send: %w", err)
		default:
			if names, err := s.settle(late, len(records), card, err); names != nil || err != nil {
				return names, err
			}
		}
	}
}

// settle finds out whether a transaction happened whose repetition was refused. That it
// did not, as far as can be seen, does not say that it never will. It gives neither names
// nor an error when it must be tried again.
func (s *Sender) settle(ctx context.Context, messages int, card []byte, refused error) ([]string, error) {
	happened, err := s.happened(ctx, card)
	switch {
	case happened:
		s.at++
		return make([]string, messages), nil
	case err == nil || session.Definite(err) || ctx.Err() != nil:
		err = errors.Join(refused, err)
	default:
		err = s.enterAgain(ctx, err)
	}
	if err != nil {
		return nil, &DoubtError{messages, err}
	}
	return nil, nil
}

// happened tells whether our node is as the transaction with card made it.
func (s *Sender) happened(ctx context.Context, card []byte) (bool, error) {
	if err := queue.Barrier(ctx, s.sess, s.Dir.Sending()); err != nil {
		return false, err
	}
	node, err := s.sess.Get(ctx, s.node())
	return err == nil && node.Stat.Version == s.at+1 && bytes.Equal(node.Data, card), err
}

func (s *Sender) operations(card []byte, records [][]byte) []any {
	ops := []any{&zk.SetDataRequest{Path: s.node(), Data: card, Version: s.at}}
	for _, r := range records {
		ops = append(ops, &zk.CreateRequest{
			Path: prefix(s.Dir.Messages(), s.Priority), Data: r, Acl: s.sess.ACL(), Flags: zk.FlagSequence,
		})
	}
	return ops
}

// refused tells whether it was the operation with this index that was refused.
func refused(results []zk.MultiResponse, i int) bool {
	return len(results) > i && results[i].Error != nil
}

// enterAgain gets another session when ours is over, which was why.
func (s *Sender) enterAgain(ctx context.Context, why error) error {
	if s.sess.Err() == nil {
		return why
	}
	s.Log.Warn("the session ended while messages were sent: asking for a new one, to find out what became of them")
	return s.enter(ctx)
}

// names are those that the transaction gave the messages. If they show that the counter
// has come to its end, the messages are taken back.
func (s *Sender) names(ctx context.Context, results []zk.MultiResponse) ([]string, error) {
	names, exhausted := make([]string, len(results)), false
	for i, r := range results {
		names[i] = path.Base(r.String)
		_, _, ok := parseName(names[i])
		exhausted = exhausted || !ok
	}
	if !exhausted {
		return names, nil
	}
	for _, name := range names {
		if err := queue.Remove(ctx, s.sess, path.Join(s.Dir.Messages(), name)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrExhausted, err)
		}
	}
	return nil, ErrExhausted
}
