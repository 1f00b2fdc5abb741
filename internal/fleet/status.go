package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// Status is what ZooKeeper knows of a fleet at one moment, more or less: it is put
// together from several reads.
type Status struct {
	Fleet   string            `json:"fleet"`
	Head    *frame.Head       `json:"head"`    // null before the first turn
	Holder  *Waiter           `json:"holder"`  // who has the turn
	Waiting []Waiter          `json:"waiting"` // in the order of their turns
	Agents  []filelock.Member `json:"agents"`
	Halt    *filelock.Halt    `json:"halt"`
	Foreign []string          `json:"foreign"` // nodes in the queue that are no places
	At      time.Time         `json:"at"`
}

// Waiter is a place in the queue.
type Waiter struct {
	Agent   string      `json:"agent"`
	Host    string      `json:"host"`
	BootID  string      `json:"boot_id"`
	Since   time.Time   `json:"since"` // it has been in the queue, by ZooKeeper's clock
	Place   string      `json:"place"`
	Token   frame.Token `json:"token"`
	Session string      `json:"session"`
}

// Look asks for the status of the fleet called name. The error says which part
// could not be read; a fleet that never was is an empty status.
func Look(ctx context.Context, sess filelock.Session, root filelock.Root, name string) (Status, error) {
	s := Status{Fleet: name, Waiting: []Waiter{}, Agents: []filelock.Member{}, Foreign: []string{}, At: time.Now().UTC()}
	entries, err := filelock.Look(ctx, sess, root)
	if err != nil {
		return s, err
	}
	for _, e := range entries {
		w := Waiter{
			Agent: e.Agent, Host: e.Host, BootID: e.BootID, Since: e.Since, Place: e.Place,
			Token: frame.Token(e.Token), Session: fmt.Sprintf("0x%x", e.Session),
		}
		switch {
		case e.Foreign:
			s.Foreign = append(s.Foreign, e.Place)
		case s.Holder == nil:
			s.Holder = &w
		default:
			s.Waiting = append(s.Waiting, w)
		}
	}
	all, err := members(ctx, sess, root)
	if err != nil {
		return s, err
	}
	for _, m := range all {
		s.Agents = append(s.Agents, m.Member)
	}
	var halted *filelock.HaltedError
	if err := filelock.CheckHalt(ctx, sess, root); errors.As(err, &halted) {
		s.Halt = &halted.Halt
	} else if err != nil {
		return s, err
	}
	s.Head, err = Head(ctx, sess, root)
	return s, err
}

// Head reads how far the fleet's file is committed; nil when there is no head.
func Head(ctx context.Context, sess filelock.Session, root filelock.Root) (*frame.Head, error) {
	node, err := sess.Get(ctx, root.Head())
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read head: %w", err)
	}
	head, err := frame.ParseHead(node.Data)
	return &head, err
}
