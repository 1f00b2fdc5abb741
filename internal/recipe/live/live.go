// Package live is configuration that is changed while it is used: a few settings in one
// node, which many read and anybody may change.
//
// Follow is for who uses it: it is told the value there is and every later one, and never
// misses the last. Change is for who changes it: checked before it is stored, and stored
// once, though the answer was lost or somebody else changed it at the same moment. A
// Schema is the rule that both keep to: what it refuses is not stored, and what comes into
// the node by another way is not used.
//
// # What is promised
//
// Whoever follows has the last value as soon as a server serves its session: at once when
// it is connected, and after its connection or session was renewed. Values in between may
// be skipped. A value is never followed by an older one, though sessions are served by
// servers that lag behind.
//
// What is not promised is that all have it at the same moment. Nothing that must be agreed
// on belongs here.
package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
)

// Snapshot is a node at one moment. The zero value is a node that is not there.
type Snapshot struct {
	Exists  bool
	Data    []byte
	Version int32     // counts the changes of one node; one that is made anew begins with 0
	At      time.Time // of the last change, by ZooKeeper's clock
	Czxid   int64     // tells a node from one that was made anew under its name
	Mzxid   int64     // of the last change
}

// same tells whether nothing happened in between. (A ZooKeeper that forgot all counts
// from the beginning again, so the data has its say.)
func (s Snapshot) same(t Snapshot) bool {
	return s.Exists == t.Exists && s.Version == t.Version && s.Czxid == t.Czxid && s.Mzxid == t.Mzxid &&
		bytes.Equal(s.Data, t.Data)
}

func snapshot(data []byte, stat *zk.Stat) Snapshot {
	return Snapshot{
		Exists: true, Data: data, Version: stat.Version,
		At: time.UnixMilli(stat.Mtime).UTC(), Czxid: stat.Czxid, Mzxid: stat.Mzxid,
	}
}

// Read gives the node as it was after the call.
func Read(ctx context.Context, sess queue.Session, node string) (Snapshot, error) {
	if err := settled(ctx, sess, node); err != nil {
		return Snapshot{}, err
	}
	return Peek(ctx, sess, node)
}

// Peek is Read without the write that makes sure: it gives the node as it was not long ago.
func Peek(ctx context.Context, sess queue.Session, node string) (Snapshot, error) {
	n, err := sess.Get(ctx, node)
	if errors.Is(err, zk.ErrNoNode) {
		return Snapshot{}, nil
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("read the configuration: %w", err)
	}
	return snapshot(n.Data, n.Stat), nil
}

// settled makes later reads of this session see all that was written so far.
func settled(ctx context.Context, sess queue.Session, node string) error {
	if err := queue.Barrier(ctx, sess, node); err != nil && !errors.Is(err, zk.ErrNoNode) {
		return fmt.Errorf("read the configuration: %w", err)
	}
	return nil
}

// Watch calls apply with the node as it is and with every later state, until ctx ends or
// the session is over, whose cause it returns. States in between may be skipped, the last
// never is. connected must be sent to whenever a server serves the session anew (see
// Renewed).
//
// A watch tells of what happens after the read that set it, as long as the connection
// lasts. The library sets it again on the next one, and the server then makes up for
// what happened after the newest zxid that the session has seen: which may be newer than
// the event that was lost, when another answer came first. So a new connection is
// reason enough to look. The one watch that is left behind when ctx ends goes with the
// session or the next change.
func Watch(ctx context.Context, sess queue.Session, node string, connected <-chan struct{}, apply func(Snapshot)) error {
	// A session never goes back in time, but another may have seen more than this one.
	if err := settled(ctx, sess, node); err != nil {
		return err
	}
	apply = changes(apply)
	for {
		now, changed, err := look(ctx, sess, node)
		if err != nil {
			return fmt.Errorf("watch the configuration: %w", err)
		}
		apply(now)
		select {
		case <-changed:
		case <-connected:
		case <-sess.Done():
			return sess.Err()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// look reads and watches the node, there or not.
func look(ctx context.Context, sess queue.Session, node string) (Snapshot, <-chan zk.Event, error) {
	for {
		n, err := sess.Watch(ctx, node)
		if err == nil {
			return snapshot(n.Data, n.Stat), n.Watch, nil
		}
		if !errors.Is(err, zk.ErrNoNode) {
			return Snapshot{}, nil, err
		}
		exists, made, err := sess.WatchFor(ctx, node)
		if err != nil || !exists {
			return Snapshot{}, made, err
		}
	}
}

// changes passes on what differs from the call before.
func changes(apply func(Snapshot)) func(Snapshot) {
	var last *Snapshot
	return func(now Snapshot) {
		if last == nil || !now.same(*last) {
			last = &now
			apply(now)
		}
	}
}
