package inbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/session"
)

// Message is a record that waits in the inbox.
type Message struct {
	Name   string
	Record []byte

	path    string
	version int32
}

// Delete is the operation that takes the message out of the inbox. It is refused when
// somebody else did, or when it is not what was read any more.
func (m Message) Delete() any { return &zk.DeleteRequest{Path: m.path, Version: m.version} }

// mostTaken bounds a batch, so that the transaction with its deletes, of some 70 bytes
// each, is well within what ZooKeeper accepts (1 MiB).
const mostTaken = 1000

// together is how many messages are read at a time.
const together = 64

// Load reads the messages that come first, in order, until it has records of them or
// bytes, newlines included, or a few more; none when there are none. What can't be a
// record is moved to the dead letters on the way. done are names of messages that were
// taken already and that a server which lags behind may still list; those that it does
// not list any more are struck off.
func (t *Taker) Load(ctx context.Context, records, bytes int, done map[string]bool) ([]Message, error) {
	names, err := t.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the inbox: %w", err)
	}
	names = t.waiting(names, done)
	records = min(records, mostTaken)
	var loaded []Message
	for size := 0; len(names) > 0 && len(loaded) < records && size < bytes; {
		n := min(together, len(names), records-len(loaded))
		some, err := t.read(ctx, names[:n])
		if err != nil {
			return nil, err
		}
		names = names[n:]
		loaded = append(loaded, some...)
		for _, m := range some {
			size += len(m.Record) + 1
		}
	}
	return loaded, nil
}

// waiting picks the messages out of a list, and puts them in order.
func (t *Taker) waiting(listed []string, done map[string]bool) (names []string) {
	still := map[string]bool{}
	for _, name := range listed {
		_, _, ok := parseName(name)
		switch {
		case !ok:
			t.alone(name, "it is no message")
		case done[name]:
			still[name] = true
		default:
			names = append(names, name)
		}
	}
	maps.DeleteFunc(done, func(name string, _ bool) bool { return !still[name] })
	slices.Sort(names)
	return names
}

// read reads messages, all at a time, and gives those that can be written.
func (t *Taker) read(ctx context.Context, names []string) ([]Message, error) {
	nodes, errs := make([]session.Node, len(names)), make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { nodes[i], errs[i] = t.sess.Get(ctx, path.Join(t.dir.Messages(), name)) })
	}
	all.Wait()
	var some []Message
	for i, name := range names {
		node, err := nodes[i], errs[i]
		switch {
		case errors.Is(err, zk.ErrNoNode): // somebody took it
			continue
		case errors.Is(err, zk.ErrNoAuth):
			t.alone(name, "it may not be read: its creator gave no permission (ACL)")
			continue
		case err != nil:
			return nil, fmt.Errorf("read message %s: %w", name, err)
		case node.Stat.NumChildren > 0:
			t.alone(name, "it has children, and so cannot be taken")
			continue
		}
		m := Message{Name: name, Record: node.Data, path: path.Join(t.dir.Messages(), name), version: node.Stat.Version}
		if bad := frame.CheckRecord(m.Record); bad == nil {
			some = append(some, m)
		} else if err := t.bury(ctx, m, bad); err != nil {
			return nil, err
		}
	}
	return some, nil
}
