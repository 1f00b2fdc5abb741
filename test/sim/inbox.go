package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/go-zookeeper/zk"
)

// In some schedules the agents share an inbox: messages in ZooKeeper, each of which is
// deleted by the transaction that commits it. Nothing says who takes which, so that two
// often want the same; what recipe/inbox adds keeps them apart most of the time, and
// nothing rests on it.
const inboxNode = "/t/f/inbox"

type message struct {
	node   string
	record []byte
}

// fillInbox sends the messages, which all servers know of.
func (w *world) fillInbox(n int) {
	w.zk.transact(0, &zk.CreateRequest{Path: inboxNode})
	for i := range n {
		m := message{fmt.Sprintf("%s/%d", inboxNode, i), fmt.Appendf(nil, "message %d", i)}
		w.zk.transact(0, &zk.CreateRequest{Path: m.node, Data: m.record})
		w.messages = append(w.messages, m)
	}
	for _, s := range w.zk.servers {
		s.applyTo(len(w.zk.history))
	}
}

// inbox is a source that takes from the inbox.
type inbox struct {
	source
	ahead []message // read, and not in a turn yet
	taken []message // in the turn that is under way
}

func (s *inbox) Wait(ctx context.Context) error {
	s.p.step("reading its input")
	s.ahead, s.taken = nil, nil
	for {
		names, err := s.p.client.Children(ctx, inboxNode)
		if errors.Is(err, zk.ErrNoNode) {
			return io.EOF // ZooKeeper was restored to a time before the inbox
		}
		if err != nil {
			return err
		}
		if len(names) == 0 {
			return s.stay(ctx)
		}
		slices.Sort(names)
		for _, name := range names[:min(3, len(names))] {
			node := path.Join(inboxNode, name)
			n, err := s.p.client.Get(ctx, node)
			if errors.Is(err, zk.ErrNoNode) {
				continue
			}
			if err != nil {
				return err
			}
			s.ahead = append(s.ahead, message{node, n.Data})
		}
		if len(s.ahead) > 0 {
			return nil
		}
	}
}

func (s *inbox) Take(turn uint64) [][]byte {
	s.p.gate("taking messages")
	n := min(2, len(s.ahead))
	s.taken, s.ahead = s.ahead[:n:n], s.ahead[n:]
	var records [][]byte
	for _, m := range s.taken {
		records = append(records, m.record)
	}
	s.turn = turn
	s.calls = append(s.calls, call{agent: s.p.name, began: s.p.w.steps(), records: records})
	return records
}

func (s *inbox) With() (ops []any) {
	for _, m := range s.taken {
		ops = append(ops, &zk.DeleteRequest{Path: m.node, Version: -1})
	}
	return ops
}

func (s *inbox) Gone(at int) bool {
	s.ahead = slices.Delete(s.ahead, at, at+1)
	return len(s.ahead) > 0
}

func (s *inbox) More() bool { return len(s.ahead) > 0 }

func (s *inbox) Committed() {
	s.p.gate("noting a commit")
	s.committed(len(s.calls) - 1)
	s.taken = nil
}

// Back: what was refused for certain is no append.
func (s *inbox) Back() {
	s.p.gate("taking messages back")
	s.calls = s.calls[:len(s.calls)-1]
	s.ahead, s.taken = append(s.taken, s.ahead...), nil
}

// judgeInbox checks that each message is in the file or in the inbox, and once.
func (w *world) judgeInbox() {
	for _, m := range w.messages {
		n := bytes.Count(w.prefix, fmt.Appendf(nil, "\n%s\n", m.record))
		if w.zk.leader().nodes[m.node] != nil {
			n++
		}
		if n != 1 {
			w.fail("%q is %d times in the file and the inbox", m.record, n)
		}
	}
}

// emptied tells whether no message waits any more.
func (w *world) emptied() bool {
	return !slices.ContainsFunc(w.messages, func(m message) bool { return w.zk.leader().nodes[m.node] != nil })
}
