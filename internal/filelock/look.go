package filelock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/session"
)

// Entry is one place in the queue as an onlooker sees it.
type Entry struct {
	Place string `json:"place"` // its name, for Evict
	Member
	Token   uint64    `json:"-"`       // its creation zxid
	Session int64     `json:"-"`       // its owner; 0 when it belongs to none
	Since   time.Time `json:"since"`   // by ZooKeeper's clock
	Foreign bool      `json:"foreign"` // not a place of ours: ignored by everyone
}

// Look lists the queue in order; the first that is not foreign has the turn.
// Foreign nodes come last.
func Look(ctx context.Context, sess *session.Session, root Root) ([]Entry, error) {
	names, err := sess.Children(ctx, root.Queue())
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the queue: %w", err)
	}
	var entries []Entry
	for _, name := range names {
		node, err := sess.Get(ctx, path.Join(root.Queue(), name))
		if errors.Is(err, zk.ErrNoNode) {
			continue // its turn ended meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("look at place %s: %w", name, err)
		}
		entry := Entry{
			Place: name, Token: uint64(node.Stat.Czxid), Session: node.Stat.EphemeralOwner,
		}
		_, _, ours := parseName(name)
		entry.Foreign = !ours
		// A place with a card that cannot be read is a place all the same.
		_ = json.Unmarshal(node.Data, &entry.Member)
		entry.Since = time.UnixMilli(node.Stat.Ctime).UTC()
		entries = append(entries, entry)
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		_, x, okX := parseName(a.Place)
		_, y, okY := parseName(b.Place)
		switch {
		case okX != okY && okX, okX == okY && x < y:
			return -1
		default:
			return 1
		}
	})
	return entries, nil
}

// Evict removes a place from the queue, whosever it is. That is always safe: its
// owner cannot commit any more. On a nil error it is gone.
func Evict(ctx context.Context, sess *session.Session, root Root, place string) error {
	if place == "" || place != path.Base(path.Clean("/"+place)) {
		return fmt.Errorf("evict %q: not the name of a place", place)
	}
	if err := remove(ctx, sess, path.Join(root.Queue(), place)); err != nil {
		return fmt.Errorf("evict %s: %w", place, err)
	}
	return nil
}
