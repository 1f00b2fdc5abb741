package sim

import (
	"bytes"
	"context"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/test/history"
)

// judge holds the end to the promises, with the verifier and without it.
func (w *world) judge() {
	last := w.procs[len(w.procs)-1]
	if !w.mayRefuse && !last.source.done() {
		w.fail("nothing broke any more, and %s did not get its turns", last.name)
	}
	if !w.mayRefuse && (!bytes.Equal(w.disk.content(), w.prefix) || !bytes.Equal(w.disk.durable(), w.prefix)) {
		w.fail("at the end the file is not what is committed: %d bytes, of which %d on disk, and %d are committed",
			len(w.disk.content()), len(w.disk.durable()), len(w.prefix))
	}
	if nodes := w.zk.turns(); !w.mayRefuse && len(nodes) > 0 {
		w.fail("nodes stay: %v", nodes)
	}
	w.kept()
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
	if w.head.Offset == 0 || w.restored {
		return
	}
	var appends []history.Append
	for _, p := range w.procs {
		for _, c := range p.source.calls {
			a := history.Append{Agent: c.agent, Records: c.records, Call: int64(c.began), Return: history.Unknown}
			if c.completed > 0 {
				a.Return, a.Turn = int64(c.completed), c.turn
			}
			appends = append(appends, a)
		}
	}
	if err := history.Check(w.prefix, appends, 0); err != nil {
		w.fail("the history: %v", err)
	}
}

// verify asks the verifier. When agents may have had to refuse, it is asked of what is
// committed, and not of the file.
func (w *world) verify() {
	content := w.disk.content()
	switch {
	case w.head.Offset == 0:
		return // nothing was ever committed
	case w.mayRefuse:
		content = w.prefix
	}
	opts := verify.Options{Head: func(context.Context) (*frame.Head, error) { return &w.head, nil }}
	report, err := verify.Reader(context.Background(), bytes.NewReader(content), int64(len(content)), opts)
	if err != nil || report.Faults() > 0 {
		w.fail("the verifier: %v, %v", err, report.Findings)
	}
}

// judgeCalls checks that what was acknowledged is committed once, whatever was not at
// most once, and all in the order in which it was written.
func (w *world) judgeCalls(p *proc) {
	if w.restored { // what is committed is not all that was
		return
	}
	before := -1
	for _, c := range p.source.calls {
		at := -1
		for _, r := range c.records {
			line := append(append([]byte{'\n'}, r...), '\n')
			n := bytes.Count(w.prefix, line)
			switch acked := c.completed > 0; {
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
