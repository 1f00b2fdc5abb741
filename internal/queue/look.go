package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/go-zookeeper/zk"
)

// Entry is one place as an onlooker sees it.
type Entry struct {
	Place string `json:"place"` // its name, for Evict
	Member
	Token   uint64    `json:"-"`                // its creation zxid
	Session int64     `json:"-"`                // its owner; 0 when it belongs to none
	Since   time.Time `json:"since"`            // by ZooKeeper's clock
	Shared  bool      `json:"shared,omitempty"` // may stand beside others of its kind
	Foreign bool      `json:"foreign"`          // not a place of ours: ignored by everyone
}

// Look lists a line in order; the first that is not foreign has the turn.
// Foreign nodes come last. A line that is not there is empty.
func Look(ctx context.Context, sess Session, dir string) ([]Entry, error) {
	names, err := sess.Children(ctx, dir)
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the queue: %w", err)
	}
	var entries []Entry
	for _, name := range names {
		node, err := sess.Get(ctx, path.Join(dir, name))
		if errors.Is(err, zk.ErrNoNode) {
			continue // its turn ended meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("look at place %s: %w", name, err)
		}
		entry := Entry{
			Place: name, Token: uint64(node.Stat.Czxid), Session: node.Stat.EphemeralOwner,
		}
		_, _, shared, ours := parseName(name)
		entry.Shared, entry.Foreign = shared, !ours
		// A place with a card that cannot be read is a place all the same.
		_ = json.Unmarshal(node.Data, &entry.Member)
		entry.Since = time.UnixMilli(node.Stat.Ctime).UTC()
		entries = append(entries, entry)
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		_, x, _, okX := parseName(a.Place)
		_, y, _, okY := parseName(b.Place)
		switch {
		case okX != okY && okX, okX == okY && x < y:
			return -1
		default:
			return 1
		}
	})
	return entries, nil
}

// Holds tells how many of the entries, from the first, have their turn: one, or all
// shared ones before the first that is not.
func Holds(entries []Entry) int {
	n := 0
	for _, e := range entries {
		if e.Foreign || n > 0 && !e.Shared {
			break
		}
		n++
		if !e.Shared {
			break
		}
	}
	return n
}

// Evict removes a place from a line, whosever it is. On a nil error it is gone.
func Evict(ctx context.Context, sess Session, dir, place string) error {
	if place == "" || place != path.Base(path.Clean("/"+place)) {
		return fmt.Errorf("evict %q: not the name of a place", place)
	}
	if err := Remove(ctx, sess, path.Join(dir, place)); err != nil {
		return fmt.Errorf("evict %s: %w", place, err)
	}
	return nil
}
