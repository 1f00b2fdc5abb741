package ids

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// Entry is a number that is taken, as an onlooker sees it.
type Entry struct {
	Number int `json:"id"`
	queue.Member
	Token   uint64    `json:"-"`     // its node's creation zxid
	Session int64     `json:"-"`     // its owner; 0 when it belongs to none
	Since   time.Time `json:"since"` // by ZooKeeper's clock
}

// Usage is a pool as an onlooker sees it.
type Usage struct {
	Size    int           `json:"size"`    // 0 when there is no such pool
	Taken   []Entry       `json:"taken"`   // by number
	Waiting []queue.Entry `json:"waiting"` // in order; foreign nodes last
}

// Look tells who has which number of the pool at dir, and who waits. A pool that is not
// there is empty.
func Look(ctx context.Context, sess *session.Session, dir string) (Usage, error) {
	u := Usage{Taken: []Entry{}, Waiting: []queue.Entry{}}
	node, err := sess.Get(ctx, dir)
	if errors.Is(err, zk.ErrNoNode) {
		return u, nil
	}
	if err != nil {
		return u, fmt.Errorf("look at the pool %s: %w", dir, err)
	}
	var a agreement
	_ = json.Unmarshal(node.Data, &a) // who holds what can be told all the same
	u.Size = a.Size
	p := &Pool{Sess: sess, Dir: dir}
	if u.Taken, err = p.holders(ctx); err != nil {
		return u, fmt.Errorf("look at the pool %s: %w", dir, err)
	}
	waiting, err := queue.Look(ctx, sess, p.waiting())
	u.Waiting = append(u.Waiting, waiting...)
	return u, err
}

func (p *Pool) holders(ctx context.Context) ([]Entry, error) {
	entries := []Entry{}
	names, err := p.Sess.Children(ctx, p.taken())
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return entries, err
	}
	for _, name := range names {
		n := number(name)
		if n == 0 {
			continue // none of ours
		}
		node, err := p.Sess.Get(ctx, path.Join(p.taken(), name))
		if errors.Is(err, zk.ErrNoNode) {
			continue // given back meanwhile
		}
		if err != nil {
			return entries, err
		}
		e := Entry{Number: n, Token: uint64(node.Stat.Czxid), Session: node.Stat.EphemeralOwner}
		// A number with a card that cannot be read is taken all the same.
		_ = json.Unmarshal(node.Data, &e.Member)
		e.Since = time.UnixMilli(node.Stat.Ctime).UTC()
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Number, b.Number) })
	return entries, nil
}
