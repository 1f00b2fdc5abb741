package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/recipe/lock"
	"github.com/turnstile-fleet/turnstile/session"
)

// lockUser is one who has a lock or waits for it, for people and scripts.
type lockUser struct {
	Agent  string      `json:"agent"`
	Host   string      `json:"host"`
	Since  time.Time   `json:"since"` // it asked for the lock, by ZooKeeper's clock
	Token  frame.Token `json:"token"`
	Shared bool        `json:"shared"`
	Slot   int         `json:"slot,omitempty"`
	Label  string      `json:"label,omitempty"`
	Place  string      `json:"place,omitempty"`
}

// lockState is a lock as `lock ls` and `lock show` tell it.
type lockState struct {
	Name    string     `json:"name"`
	Kind    lock.Kind  `json:"kind"`
	Slots   int        `json:"slots,omitempty"`
	Holders []lockUser `json:"holders"`
	Waiting []lockUser `json:"waiting"` // in order
	Foreign []string   `json:"foreign"` // nodes that are nobody's, and ignored
}

// locks are what `lock ls` and `lock show` tell of.
var locks = named[lockState]{"lock", lockDir, lookAtLock, lockState.line, lockState.text}

func lookAtLock(ctx context.Context, sess *session.Session, dir, name string) (lockState, error) {
	s := lockState{Name: name, Holders: []lockUser{}, Waiting: []lockUser{}, Foreign: []string{}}
	seen, err := lock.Look(ctx, sess, dir)
	s.Kind, s.Slots = seen.Kind, seen.Slots
	user := func(e queue.Entry, slot int) lockUser {
		return lockUser{e.Agent, e.Host, e.Since, frame.Token(e.Token), e.Shared, slot, e.Label, e.Place}
	}
	for _, h := range seen.Holders {
		s.Holders = append(s.Holders, user(h.Entry, h.Slot))
	}
	for _, w := range seen.Waiting {
		s.Waiting = append(s.Waiting, user(w, 0))
	}
	for _, f := range seen.Foreign {
		s.Foreign = append(s.Foreign, f.Place)
	}
	return s, err
}

// line is the lock in a few words.
func (s lockState) line() string {
	return fmt.Sprintf("%-16s  %s, waiting: %d\n", s.Name, s.had(), len(s.Waiting))
}

// had says in a few words who has the lock.
func (s lockState) had() string {
	if len(s.Holders) == 0 {
		return "free"
	}
	first := fmt.Sprintf("%s on %s", s.Holders[0].Agent, s.Holders[0].Host)
	switch s.Kind {
	case lock.Slots:
		return fmt.Sprintf("%d of %d slots taken", len(s.Holders), s.Slots)
	case lock.Shared:
		return fmt.Sprintf("shared by %d, first %s", len(s.Holders), first)
	}
	return "held by " + first
}

func (s lockState) text() string {
	var b strings.Builder
	kind := string(s.Kind)
	if s.Kind == lock.Slots {
		kind = fmt.Sprintf("%d slots", s.Slots)
	}
	line := func(u lockUser) string {
		text := fmt.Sprintf("%s on %s, since %s", u.Agent, u.Host, u.Since.Format(time.RFC3339))
		if u.Shared {
			text += ", shared"
		}
		if u.Label != "" {
			text += fmt.Sprintf(", %q", u.Label)
		}
		return text
	}
	fmt.Fprintf(&b, "lock     %s, %s\n", s.Name, kind)
	if len(s.Holders) == 0 {
		fmt.Fprintln(&b, "held     by nobody")
	}
	for _, h := range s.Holders {
		label := "held by"
		if h.Slot > 0 {
			label = fmt.Sprintf("slot %d", h.Slot)
		}
		fmt.Fprintf(&b, "%-8s %s, token %v\n", label, line(h), h.Token)
	}
	for i, w := range s.Waiting {
		fmt.Fprintf(&b, "%7d  %s\n", i+1, line(w))
	}
	for _, f := range s.Foreign {
		fmt.Fprintf(&b, "?        %q is nobody's and ignored\n", f)
	}
	return b.String()
}
