package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/elect"
	"github.com/turnstile-fleet/turnstile/internal/verify"
)

// term is the time for which an auditor leads.
type term struct {
	*Auditor
	led     *elect.Leadership
	sess    queue.Session
	since   time.Time
	version int32 // of the verdict's node
	file    follower
	said    time.Time // when progress was published last
}

func newTerm(a *Auditor, l *elect.Leadership) *term {
	t := &term{Auditor: a, led: l, sess: l.Session(), since: time.Now().UTC(), version: unknown}
	t.file = follower{path: a.File, log: a.Log}
	return t
}

// audit judges the file whenever head has changed, until ctx ends.
func (t *term) audit(ctx context.Context) error {
	t.file.progress = func(done, total int64) { t.progress(ctx, done, total) }
	if err := t.publish(ctx, Verdict{Verdict: Checking}); err != nil {
		return err
	}
	for {
		begun := time.Now()
		changed, pause, err := t.pass(ctx)
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case <-time.After(time.Until(begun.Add(pause))):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pass judges the file up to head once, and publishes the verdict. changed tells when
// there is more to judge, and pause how long after this beginning that may be done.
func (t *term) pass(ctx context.Context) (changed <-chan zk.Event, pause time.Duration, err error) {
	for sure := t.last.Verdict == Faults; ; sure = true {
		if sure { // head may come from a server that lags behind, and nothing is known
			if err := queue.Barrier(ctx, t.sess, t.Root); err != nil {
				return nil, 0, fmt.Errorf("ask for head: %w", err)
			}
			t.file.forget()
		}
		begun := time.Now()
		seen, err := t.look(ctx)
		if err != nil {
			return nil, 0, err
		}
		report := empty(seen)
		if seen.head != nil {
			report, err = t.file.judge(ctx, seen)
		}
		if err != nil {
			return nil, 0, err
		}
		if !report.OK() && !sure {
			continue
		}
		t.worked, pause = true, rest
		if !report.OK() {
			pause = max(rest, share*time.Since(begun))
		}
		return seen.changed, pause, t.tell(ctx, seen, report)
	}
}

// sight is how far the file is committed, and when to look again.
type sight struct {
	receipt *verify.Receipt
	head    *frame.Head // nil when there is none
	changed <-chan zk.Event
}

// look reads what the volume knows, then head, and watches it.
func (t *term) look(ctx context.Context) (s sight, err error) {
	if t.LastCommit != nil {
		if turn, offset, ok := t.LastCommit(); ok {
			s.receipt = &verify.Receipt{Turn: turn, Offset: offset}
		}
	}
	for {
		node, err := t.sess.Watch(ctx, headNode(t.Root))
		if err == nil {
			head, err := frame.ParseHead(node.Data)
			s.head, s.changed = &head, node.Watch
			return s, err
		}
		if !errors.Is(err, zk.ErrNoNode) {
			return s, fmt.Errorf("read head: %w", err)
		}
		exists, made, err := t.sess.WatchFor(ctx, headNode(t.Root))
		if err != nil {
			return s, fmt.Errorf("look for head: %w", err)
		}
		if !exists {
			s.changed = made
			return s, nil
		}
	}
}

// empty is the report on a fleet without a head: fine if nothing was ever committed.
func empty(s sight) (r verify.Report) {
	if s.receipt != nil && s.receipt.Turn > 0 {
		r.FaultCount = 1
		r.Findings = []verify.Finding{{
			Kind: verify.Mismatch, Offset: s.receipt.Offset, Turn: s.receipt.Turn,
			Text: fmt.Sprintf("ZooKeeper has no head for this fleet, but the fence beside the file says that turn %d was committed.", s.receipt.Turn),
		}}
	}
	return r
}

// tell publishes what was found.
func (t *term) tell(ctx context.Context, s sight, r verify.Report) error {
	v := Verdict{Verdict: Fine, Records: r.Records, Faults: r.FaultCount}
	if s.head != nil {
		v.Turn, v.Offset = s.head.Turn, s.head.Offset
	}
	if !r.OK() {
		v.Verdict = Faults
		if len(r.Findings) > 0 {
			v.First = &r.Findings[0]
		}
	}
	before := t.last
	if err := t.publish(ctx, v); err != nil {
		return err
	}
	switch {
	case v.Verdict == Faults && (before == nil || before.Verdict != Faults):
		t.Log.Error("THE FILE IS NOT WHOLE: run `agent verify` for all that is wrong",
			zap.Int64("faults", v.Faults), zap.Any("first", v.First))
	case before != nil && before.Verdict != v.Verdict:
		t.Log.Info("the file is whole", zap.Uint64("turn", v.Turn), zap.Int64("bytes", v.Offset))
	default:
		t.Log.Debug("audited", zap.String("verdict", v.Verdict), zap.Uint64("turn", v.Turn))
	}
	return nil
}

// progress publishes how far a long reading from the beginning is, once a second.
func (t *term) progress(ctx context.Context, done, total int64) {
	if t.last.Verdict != Checking || time.Since(t.said) < time.Second || done == total {
		return
	}
	t.said = time.Now()
	if err := t.publish(ctx, Verdict{Verdict: Checking, Offset: done, Of: total}); err != nil {
		t.Log.Debug("progress is not published", zap.Error(err)) // the verdict's error counts
	}
	t.Log.Info("reading the file from its beginning", zap.Int64("done", done), zap.Int64("of", total))
}
