package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/follow"
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
	t.file = follower{path: a.File, open: a.Open, log: a.Log}
	t.file.final = func(ctx context.Context) (*frame.Head, error) { return follow.Final(ctx, t.sess, t.Root) }
	return t
}

// audit judges the file whenever head has changed, or while the file lacks what is
// committed, until ctx ends.
func (t *term) audit(ctx context.Context) error {
	t.file.progress = func(done, total int64) { t.progress(ctx, done, total) }
	if err := t.publish(ctx, Verdict{Verdict: Checking}); err != nil {
		return err
	}
	for lag := rest; ; {
		begun := time.Now()
		p, err := t.pass(ctx)
		if err != nil {
			return err
		}
		var again <-chan time.Time // nothing tells when the file is written
		if lag = min(2*lag, mostLag); !p.lags {
			lag = rest
		} else {
			again = time.After(lag)
		}
		select {
		case <-p.changed:
		case <-again:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case <-time.After(time.Until(begun.Add(p.pause))):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// passed is when there is more to judge after a pass.
type passed struct {
	changed <-chan zk.Event
	pause   time.Duration // how long after its beginning that may be done
	lags    bool          // committed turns are not in the file yet
}

// pass judges the file up to head once, and publishes the verdict.
func (t *term) pass(ctx context.Context) (p passed, err error) {
	for sure := t.last.Verdict == Faults; ; {
		if sure { // head may come from a server that lags behind, and nothing is known
			if err := queue.Barrier(ctx, t.sess, string(t.Root)); err != nil {
				return p, fmt.Errorf("ask for head: %w", err)
			}
			t.file.forget()
		}
		begun := time.Now()
		seen, report, err := t.judge(ctx)
		switch {
		case errors.Is(err, verify.ErrMoved): // adopted, or begun, while it was read
			queue.Pause(ctx, t.sess)
			if queue.Over(ctx, t.sess) {
				return p, err
			}
			continue
		case err != nil:
			return p, err
		case !report.OK() && !sure:
			sure = true
			continue
		}
		t.worked = true
		p = passed{changed: seen.Changed, pause: rest, lags: len(report.Notes) > 0}
		if !report.OK() {
			p.pause = max(rest, share*time.Since(begun))
		}
		return p, t.tell(ctx, seen, report)
	}
}

// judge looks at head, then at the turns' nodes, then at the file.
func (t *term) judge(ctx context.Context) (seen follow.Sight, report verify.Report, err error) {
	if seen, err = follow.Watch(ctx, t.sess, t.Root, 0); err != nil {
		return seen, report, err
	}
	if seen.Head == nil {
		report, err = t.file.judgeWithoutHead(ctx)
	} else {
		report, err = t.file.judge(ctx, seen)
	}
	return seen, report, err
}

// tell publishes what was found.
func (t *term) tell(ctx context.Context, s follow.Sight, r verify.Report) error {
	v := Verdict{Verdict: Fine, Records: r.Records, Faults: r.FaultCount}
	if s.Head != nil {
		v.Turn, v.Offset = s.Head.Turn, s.Head.Offset
	}
	if r.OK() && len(r.Notes) > 0 {
		v.Turn, v.Offset = r.Sound.Turn, r.Sound.End
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
