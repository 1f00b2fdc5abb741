package sim

import (
	"bytes"
	"path"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// truth is what the checks know and no agent does.
type truth struct {
	head      frame.Head
	prefix    []byte // what is committed, byte for byte, though the file may lack it yet
	turns     []fact // the committed turns, in order, from the incarnation's line on
	former    []fact // those that were taken back when ZooKeeper was restored
	promised  []fact // those that were acknowledged
	mayRefuse bool   // something happened after which agents may have to refuse
	restored  bool   // ZooKeeper was restored: what is in the file may be beyond head
	spoilt    bool   // somebody took something off the volume
	strange   int    // where in the file the line ends that somebody appended past all agents
	lost      bool   // power was lost: what was not on disk may be zeros
	backup    map[string]*inode
	messages  []message // that were sent, in a schedule with an inbox
	followed  []byte    // what a follower of the file has printed
	clock     time.Duration
}

// fact is a committed turn.
type fact struct {
	number   uint64
	agent    string
	from     int
	bytes    []byte
	node     string
	tampered bool // somebody altered or removed its node
}

func (f fact) end() int { return f.from + len(f.bytes) }

// on tells whether a file has the turn.
func (f fact) on(file []byte) bool {
	return len(file) >= f.end() && bytes.Equal(file[f.from:f.end()], f.bytes)
}

func (w *world) wallClock() time.Time { return time.Now().Add(w.clock) }

// changed checks what a transaction of ZooKeeper's has done.
func (w *world) changed(changes []change) {
	var head, turn *change
	checkNodes := false
	for i, c := range changes {
		switch {
		case c.path == headNode && c.node != nil:
			head = &changes[i]
		case path.Dir(c.path) == turnsNode && c.node != nil:
			turn = &changes[i]
		case path.Dir(c.path) == turnsNode:
			checkNodes = true
		}
	}
	if head != nil {
		w.committed(head.node.data, turn)
	}
	if checkNodes {
		w.kept()
	}
}

// committed checks head at the moment when it changes: it goes on by one turn, whose bytes
// come with it.
func (w *world) committed(data []byte, made *change) {
	head, err := frame.ParseHead(data)
	if err != nil || made == nil {
		w.fail("head is damaged, or comes without a turn: %v", err)
		return
	}
	turn, err := frame.ParseTurn(head.Turn, made.node.data)
	if err != nil {
		w.fail("turn %d is committed, and its node is damaged: %v", head.Turn, err)
		return
	}
	switch was := w.head; {
	case was.Offset > 0 && head.Incarnation != was.Incarnation:
		w.fail("the incarnation changes")
	case was.Offset > 0 && (head.Turn != was.Turn+1 || head.Token <= was.Token):
		w.fail("turn %d with token %v follows turn %d with token %v", head.Turn, head.Token, was.Turn, was.Token)
	case turn.Offset != was.Offset || turn.End() != head.Offset || turn.Sum() != head.Sum || turn.Incarnation != head.Incarnation:
		w.fail("turn %d is committed, and its node is of another", head.Turn)
	}
	w.head = head
	w.prefix = append(w.prefix, turn.Bytes...)
	w.turns = append(w.turns, fact{head.Turn, turn.Header.Agent, int(turn.Offset), turn.Bytes, made.path, false})
	if head.Turn > 0 {
		w.counts.Turns++
	}
	if w.themed(restore) && w.backup[dataFile] == nil && w.tape.chance(3) {
		w.backup = w.disk.snapshot()
	}
	w.tell("— turn %d is committed, up to byte %d", head.Turn, head.Offset)
}

// acknowledged checks an acknowledgement: its records are committed under its turn, and on
// disk.
func (w *world) acknowledged(p *proc, c *call) {
	w.counts.Acked++
	w.tell("— turn %d is acknowledged to %s", c.turn, p.name)
	records := lines(c.records)
	for _, turns := range [][]fact{w.turns, w.former} {
		for _, f := range turns {
			if f.number != c.turn || f.agent != p.name || !bytes.HasSuffix(f.bytes, records) {
				continue
			}
			if !f.on(w.disk.durable()) {
				w.fail("turn %d is acknowledged to %s, and not on disk", c.turn, p.name)
			}
			w.promised = append(w.promised, f)
			w.kept()
			return
		}
	}
	w.fail("turn %d is acknowledged to %s, and its records are not committed there", c.turn, p.name)
}

// kept checks that whatever is committed is on disk, or has its node, and that what was
// acknowledged is on disk.
func (w *world) kept() {
	safe := w.disk.durable()
	if !w.spoilt {
		for _, f := range w.promised {
			if !f.on(safe) {
				w.fail("turn %d was acknowledged, and is not on disk any more", f.number)
			}
		}
	}
	if w.restored || w.spoilt {
		return
	}
	for _, f := range w.turns {
		if !f.tampered && w.zk.leader().nodes[f.node] == nil && !f.on(safe) {
			w.fail("turn %d is committed, not on disk, and has no node", f.number)
		}
	}
}

// seen checks what readers see, whenever that has changed: nothing but what is committed,
// without gaps, and never less than before. A follower reads it.
func (w *world) seen(after string) {
	file := w.disk.content()
	if n := w.strange; n > 0 && (len(file) < n || string(file[n-len(oops):n]) != oops) {
		w.fail("after %s, what somebody appended to the file is gone", after)
	}
	if w.restored || w.spoilt {
		return
	}
	if n := len(w.followed); len(file) > n {
		w.followed = append(w.followed, file[n:]...)
	} else if len(file) < n && !w.lost {
		w.fail("after %s, the file shrinks from %d to %d bytes", after, n, len(file))
	}
	if !w.lost {
		if !bytes.HasPrefix(w.prefix, file) || !bytes.HasPrefix(w.prefix, w.followed) {
			w.fail("after %s, readers see what is not committed: at byte %d", after, differs(w.prefix, file))
		}
		return
	}
	if len(file) > len(w.prefix) {
		w.fail("after %s, the file has %d bytes, and %d are committed", after, len(file), len(w.prefix))
		return
	}
	for i, c := range file {
		if c != 0 && c != w.prefix[i] {
			w.fail("after %s, readers see at byte %d what is not committed", after, i)
			return
		}
	}
}

func differs(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// rollBack restores ZooKeeper. What was committed since is not any more; what was
// acknowledged stays in the file.
func (w *world) rollBack(to int) {
	w.zk.rollBack(to)
	w.mayRefuse, w.restored = true, true
	w.head = frame.Head{}
	if node := w.zk.leader().nodes[headNode]; node != nil {
		w.head, _ = frame.ParseHead(node.data)
	}
	for n := len(w.turns); n > 0 && w.turns[n-1].end() > int(w.head.Offset); n-- {
		w.former = append(w.former, w.turns[n-1])
		w.turns = w.turns[:n-1]
	}
	w.prefix = w.prefix[:w.head.Offset]
	for _, s := range w.waiting { // a write that is under way now is not promised
		w.spoilt = w.spoilt || s.late != nil
	}
	w.tell("ZooKeeper says: turn %d", w.head.Turn)
}
