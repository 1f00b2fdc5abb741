package filelock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/session"
)

// Halt is why nobody writes.
type Halt struct {
	Why  string    `json:"why"`
	Who  string    `json:"who"`
	When time.Time `json:"when"`
}

// HaltedError is what a halted fleet answers with; errors.Is(err, ErrHalted).
type HaltedError struct{ Halt }

func (e *HaltedError) Error() string {
	return fmt.Sprintf("%v since %s by %s: %s; mend the cause, then `agent resume`", ErrHalted, e.When.Format(time.RFC3339), e.Who, e.Why)
}

func (e *HaltedError) Unwrap() error { return ErrHalted }

// CheckHalt returns a *HaltedError while the fleet is halted, nil while it is not.
func CheckHalt(ctx context.Context, sess Session, root Root) error {
	node, err := sess.Get(ctx, root.Halt())
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for a halt: %w", err)
	}
	halted := &HaltedError{}
	if json.Unmarshal(node.Data, &halted.Halt) != nil || halted.When.IsZero() {
		// Somebody made the node by hand. The fleet is halted all the same.
		halted.Halt = Halt{Why: string(node.Data), Who: "someone", When: time.UnixMilli(node.Stat.Ctime).UTC()}
	}
	return halted
}

// checkHalt is CheckHalt, but asks ZooKeeper only when a watch, or a new connection,
// gives reason to.
func (q *Queue) checkHalt(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if connection := q.sess.Connections(); q.halt == nil || q.seen != connection || len(q.halt) > 0 {
		exists, halt, err := q.sess.WatchFor(ctx, q.root.Halt())
		if err != nil {
			return fmt.Errorf("look for a halt: %w", err)
		}
		q.halt, q.seen = halt, connection
		if exists {
			return CheckHalt(ctx, q.sess, q.root)
		}
	}
	return nil
}

// Halt stops the fleet, then gives our turn up: whoever gets the next one has seen
// our place go, and therefore sees the halt. It works though the caller's own
// context has ended. An error says that the halt may not be there.
func (h *Hold) Halt(why string) error {
	q := h.place.queue
	defer h.Release()
	ctx, cancel := context.WithTimeout(q.sess.Context(), queue.Cleanup)
	defer cancel()
	data := encode(Halt{Why: why, Who: q.line.Who.Agent + " on " + q.line.Who.Host, When: time.Now().UTC()})
	for {
		_, err := q.sess.Create(ctx, q.root.Halt(), data, 0)
		switch {
		case err == nil || errors.Is(err, zk.ErrNodeExists):
			return nil
		case !errors.Is(err, session.ErrBroken) || queue.Over(ctx, q.sess):
			return fmt.Errorf("halt the fleet: %w", err)
		}
		queue.Pause(ctx, q.sess)
	}
}

// Resume lifts a halt and returns what it was, nil when there was none.
func Resume(ctx context.Context, sess Session, root Root) (*Halt, error) {
	err := CheckHalt(ctx, sess, root)
	var halted *HaltedError
	if !errors.As(err, &halted) {
		return nil, err
	}
	if err := queue.Remove(ctx, sess, root.Halt()); err != nil {
		return nil, fmt.Errorf("resume: %w", err)
	}
	return &halted.Halt, nil
}
