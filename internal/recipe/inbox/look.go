package inbox

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// Status is what an onlooker sees of an inbox, put together from several reads.
type Status struct {
	Waiting    int           `json:"waiting"`    // messages
	Since      *time.Time    `json:"since"`      // the oldest was sent, by ZooKeeper's clock; null: none waits
	Priorities []Priority    `json:"priorities"` // those of which messages wait, the first to be taken first
	First      []Item        `json:"first"`      // the first few to be taken
	Dead       int           `json:"dead"`       // letters
	Takers     []queue.Entry `json:"takers"`     // agents that take messages, in line
	Senders    []queue.Entry `json:"senders"`    // who waits for room, in line
	Foreign    []string      `json:"foreign"`    // nodes beside the messages that are none
}

// Priority is how many messages of one wait.
type Priority struct {
	Priority int       `json:"priority"`
	Waiting  int       `json:"waiting"`
	Since    time.Time `json:"since"` // the oldest was sent
}

// Item is a message as an onlooker sees it.
type Item struct {
	Name   string    `json:"name"`
	Since  time.Time `json:"since"`
	Bytes  int       `json:"bytes"`
	Record string    `json:"record"` // bytes that are not UTF-8 are replaced
}

// Look looks at an inbox, and at the first few messages themselves. One that never was
// is empty.
func Look(ctx context.Context, sess *session.Session, dir Dir, few int) (Status, error) {
	s := Status{Priorities: []Priority{}, First: []Item{}, Takers: []queue.Entry{}, Senders: []queue.Entry{}, Foreign: []string{}}
	names, err := sess.Children(ctx, dir.Messages())
	if errors.Is(err, zk.ErrNoNode) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("list the inbox: %w", err)
	}
	slices.Sort(names)
	for _, name := range names {
		p, _, ok := parseName(name)
		if !ok {
			s.Foreign = append(s.Foreign, name)
			continue
		}
		s.Waiting++
		begins := len(s.Priorities) == 0 || s.Priorities[len(s.Priorities)-1].Priority != p
		if begins || len(s.First) < few {
			if err := s.see(ctx, sess, dir, name, begins, few); err != nil {
				return s, err
			}
		}
		if n := len(s.Priorities); n > 0 && s.Priorities[n-1].Priority == p {
			s.Priorities[n-1].Waiting++
		}
	}
	return s, s.lines(ctx, sess, dir)
}

// see reads a message that is the oldest of its priority, one of the first few, or both.
func (s *Status) see(ctx context.Context, sess *session.Session, dir Dir, name string, begins bool, few int) error {
	node, err := sess.Get(ctx, path.Join(dir.Messages(), name))
	if errors.Is(err, zk.ErrNoNode) {
		s.Waiting-- // taken meanwhile
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at message %s: %w", name, err)
	}
	since := time.UnixMilli(node.Stat.Ctime).UTC()
	if s.Since == nil || since.Before(*s.Since) {
		s.Since = &since
	}
	if len(s.First) < few {
		s.First = append(s.First, Item{Name: name, Since: since, Bytes: len(node.Data), Record: string(node.Data)})
	}
	if begins {
		p, _, _ := parseName(name)
		s.Priorities = append(s.Priorities, Priority{Priority: p, Since: since})
	}
	return nil
}

// lines adds who stands in line, and the dead letters.
func (s *Status) lines(ctx context.Context, sess *session.Session, dir Dir) error {
	for into, line := range map[*[]queue.Entry]string{&s.Takers: dir.Takers(), &s.Senders: dir.Senders()} {
		entries, err := queue.Look(ctx, sess, line)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.Foreign {
				*into = append(*into, e)
			}
		}
	}
	dead, err := letterNames(ctx, sess, dir)
	s.Dead = len(dead)
	return err
}
