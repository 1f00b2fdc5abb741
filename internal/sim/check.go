package sim

import (
	"bytes"
	"context"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/history"
	"github.com/turnstile-fleet/turnstile/internal/verify"
)

// truth is what the checks know and no agent does.
type truth struct {
	head      frame.Head
	prefix    []byte         // the committed part of the file, byte for byte
	ends      map[uint64]int // where committed turns end
	acked     int            // how far the file is acknowledged
	former    []byte         // what was committed before ZooKeeper was restored
	mayRefuse bool           // something happened after which agents may have to refuse
	spoilt    bool           // somebody took committed turns off the volume: whoever writes now is wrong
	backup    map[string]*inode
	messages  []message     // that were sent, in a schedule with an inbox
	clock     time.Duration // how far the wall clock is off
}

func (w *world) wallClock() time.Time { return time.Now().Add(w.clock) }

// committed checks head at the moment when it changes. What is committed is on disk,
// begins with all that was committed before, and goes on by one turn.
func (w *world) committed(data []byte) {
	head, err := frame.ParseHead(data)
	if err != nil {
		w.fail("head is damaged: %v", err)
		return
	}
	content := w.disk.content()
	switch was := w.head; {
	case int64(len(content)) < head.Offset:
		w.fail("turn %d is committed up to byte %d of a file of %d", head.Turn, head.Offset, len(content))
	case was.Turn > 0 && head.Incarnation != was.Incarnation:
		w.fail("the incarnation changes")
	case was.Offset > 0 && (head.Turn != was.Turn+1 || head.Token <= was.Token || head.Offset <= was.Offset):
		w.fail("turn %d with token %v follows turn %d with token %v", head.Turn, head.Token, was.Turn, was.Token)
	case !bytes.HasPrefix(content[:head.Offset], w.prefix):
		w.fail("turn %d is committed, and what was committed before is not in the file any more", head.Turn)
	case head.Turn > 0 && sumAt(content[was.Offset:]) != head.Sum:
		w.fail("turn %d is committed, and another frame is there", head.Turn)
	}
	if w.broken != nil {
		return
	}
	w.head = head
	w.prefix = bytes.Clone(content[:head.Offset])
	if w.ends == nil {
		w.ends = map[uint64]int{}
	}
	w.ends[head.Turn] = int(head.Offset)
	if head.Turn > 0 {
		w.counts.Turns++
	}
	w.tell("— turn %d is committed, up to byte %d", head.Turn, head.Offset)
	if safe := w.disk.safe[dataFile]; safe == nil || !bytes.HasPrefix(safe.safe, w.prefix) {
		w.fail("turn %d is committed and not on disk", head.Turn)
	}
}

// sumAt is the sum of the frame that begins there.
func sumAt(content []byte) frame.Sum {
	line, _, _ := bytes.Cut(content, []byte("\n"))
	header, _ := frame.ParseHeader(line) // the zero sum is nobody's
	return header.Sum
}

// acknowledged checks an acknowledgement: its records are committed under its turn.
func (w *world) acknowledged(p *proc, c *call) {
	w.mu.Lock()
	end := w.ends[c.turn]
	w.counts.Acked++
	w.mu.Unlock()
	w.tell("— turn %d is acknowledged to %s", c.turn, p.name)
	if end > len(w.prefix) && end <= len(w.former) && bytes.HasPrefix(w.disk.content(), w.former[:end]) {
		w.prefix = w.former[:end] // ZooKeeper was restored between the commit and this
	}
	if end == 0 || !bytes.HasSuffix(w.prefix[:min(end, len(w.prefix))], lines(c.records)) {
		w.fail("turn %d is acknowledged to %s, and its records are not committed there", c.turn, p.name)
		return
	}
	w.acked = max(w.acked, end)
}

func lines(records [][]byte) []byte {
	return append(bytes.Join(records, []byte("\n")), '\n')
}

// changing checks a write to the data file before it happens: only the holder of the
// fence's lock writes, and only at the end.
func (w *world) changing(p *proc, at int, b []byte) {
	w.tell("%s writes %d bytes at byte %d", p.name, len(b), at)
	w.checkHolder(p)
	w.checkVolume("before a write by " + p.name)
	if at != len(w.disk.content()) {
		w.fail("%s writes at byte %d of a file of %d", p.name, at, len(w.disk.content()))
	}
}

// cutting checks a truncation before it happens: nothing committed is cut, and what is
// cut is kept in the orphans, on disk.
func (w *world) cutting(p *proc, size int) {
	content := w.disk.content()
	w.tell("%s cuts the file from %d to %d bytes", p.name, len(content), size)
	w.checkHolder(p)
	w.checkVolume("before a cut by " + p.name)
	if w.head.Turn == 0 && size == 0 {
		w.prefix = nil // a beginning without a turn may be written once more
	}
	if w.counts.Faults[rollBack] > 0 && p.client != nil && p.client.gone && size >= w.acked {
		// A holder from a time that was taken back may outrank the one whose turn this is.
		// Not promised otherwise (docs/reliability.md), but nothing acknowledged goes.
		w.prefix = w.prefix[:min(size, len(w.prefix))]
	}
	switch begun := len(w.prefix) > 0; {
	case size < len(w.prefix):
		w.fail("%s cuts at byte %d, and %d are committed", p.name, size, len(w.prefix))
	case begun && size < len(content) && !w.disk.kept(content[size:]):
		w.fail("%s cuts %d bytes that are not kept on disk", p.name, len(content)-size)
	}
}

func (w *world) checkHolder(p *proc) {
	if fence := w.disk.live[dataFile+".fence"]; fence == nil || fence.lock == nil || fence.lock.p != p {
		w.fail("%s changes the file, and has not the fence's lock", p.name)
	}
}

// checkVolume checks that the file begins with what is committed.
func (w *world) checkVolume(when string) {
	if !bytes.HasPrefix(w.disk.content(), w.prefix) {
		w.fail("%s, the file does not begin with what was committed", when)
	}
}

// rollBack restores ZooKeeper. What was committed and not acknowledged may be gone then;
// what was acknowledged is not.
func (w *world) rollBack(to int) {
	w.zk.rollBack(to)
	w.mayRefuse = true
	w.head = frame.Head{}
	if node := w.zk.leader().nodes[headNode]; node != nil {
		w.head, _ = frame.ParseHead(node.data)
	}
	if !bytes.HasPrefix(w.former, w.prefix) {
		w.former = w.prefix
	}
	w.prefix = w.prefix[:min(len(w.prefix), max(w.acked, int(w.head.Offset)))]
	w.tell("ZooKeeper says: turn %d", w.head.Turn)
}

// judge holds the end to the promises, with the verifier and without it.
func (w *world) judge() {
	if last := w.procs[len(w.procs)-1]; !w.mayRefuse && (last.source.at < len(last.source.batches) || !w.emptied()) {
		w.fail("nothing broke any more, and %s did not get its turns", last.name)
	}
	if !w.spoilt {
		w.checkVolume("at the end")
	}
	w.verify()
	if w.messages == nil {
		for _, p := range w.procs {
			w.judgeCalls(p)
		}
	} else if !w.mayRefuse {
		w.judgeInbox()
	}
	w.linearize()
}

// linearize asks porcupine whether there is an order of all appends that explains what
// was acknowledged, and when, and what the file holds.
func (w *world) linearize() {
	if w.head.Offset == 0 {
		return
	}
	var appends []history.Append
	for _, p := range w.procs {
		for _, c := range p.source.calls {
			a := history.Append{Agent: c.agent, Records: c.records, Call: int64(c.began), Return: history.Unknown, Turn: c.turn}
			if c.completed > 0 {
				a.Return = int64(c.completed)
			}
			appends = append(appends, a)
		}
	}
	if err := history.Check(w.prefix, appends, 0); err != nil {
		w.fail("the history: %v", err)
	}
}

// verify asks the verifier.
func (w *world) verify() {
	content, opts := w.disk.content(), verify.Options{}
	switch {
	case w.head.Offset == 0:
		return // nothing was ever committed
	case w.mayRefuse:
		content = w.prefix
	default:
		opts.Head = func(context.Context) (*frame.Head, error) { return &w.head, nil }
	}
	report, err := verify.Reader(context.Background(), bytes.NewReader(content), int64(len(content)), opts)
	if err != nil || report.Faults() > 0 {
		w.fail("the verifier: %v, %v", err, report.Findings)
	}
}

// judgeCalls checks that what was acknowledged is in the file once, whatever was not at
// most once, and all in the order in which it was written.
func (w *world) judgeCalls(p *proc) {
	before := -1
	for i, c := range p.source.calls {
		at := -1
		for _, r := range c.records {
			line := append(append([]byte{'\n'}, r...), '\n')
			n := bytes.Count(w.prefix, line)
			switch acked := i < p.source.at; {
			case acked && n != 1, n > 1:
				w.fail("%q is in the file %d times (acknowledged: %v)", r, n, acked)
			case n == 1:
				at = bytes.Index(w.prefix, line)
			}
			if n == 1 && at <= before {
				w.fail("%q is in the file before what %s wrote earlier", r, p.name)
			}
			if n == 1 {
				before = at
			}
		}
	}
}
