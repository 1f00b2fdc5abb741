package audit_test

import (
	"context"
	"os"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/audit"
	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/recipe/elect"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
)

// TestATurnThatIsNotWrittenYetIsAwaited commits before it writes, as agents do.
func TestATurnThatIsNotWrittenYetIsAwaited(t *testing.T) {
	s := newSite(t)
	s.turns(3)
	s.auditor("one", s.Server.Addr)
	s.becomesFine()
	for range 2 {
		s.make()
		s.node()
		s.commit()
		_, before := s.verdict()
		recipetest.Eventually(t, "it was judged", func() bool { _, n := s.verdict(); return n > before })
		if v, _ := s.verdict(); v.Verdict != audit.Fine || v.Turn != s.head.Turn-1 || v.Offset != s.last.Offset {
			t.Errorf("it is not in the file, and the verdict is %+v", v)
		}
		s.append(s.last.Bytes)
		s.becomesFine() // though head does not change
		s.drop()
	}
	s.make()
	s.commit() // without a node
	if v := s.becomesFaulty(); v.First == nil || v.First.Kind != verify.Lost {
		t.Errorf("%+v", v.First)
	}
	s.append(s.last.Bytes)
	s.turns(1)
	s.becomesFine()
	s.append([]byte("oops\n"))
	s.commit()
	if v := s.becomesFaulty(); v.First == nil || v.First.Kind != verify.Uncommitted {
		t.Errorf("%+v", v.First)
	}
}

func TestAFileThatIsStillToBeMade(t *testing.T) {
	s := newSite(t)
	line, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	s.last = frame.First(frame.Incarnation{ID: s.head.Incarnation, From: 1}, uuid.New())
	s.node()
	s.commit()
	s.auditor("one", s.Server.Addr)
	if v := s.becomes("fine", func(v audit.Verdict) bool { return v.Verdict == audit.Fine }); v.Turn != 0 || v.Offset != 0 {
		t.Errorf("%+v", v)
	}
	s.append(line)
	s.turns(1)
	s.becomesFine()
}

func TestAFileWhoseHeadIsGoneIsNotWhole(t *testing.T) {
	s := newSite(t)
	s.turns(3)
	s.auditor("one", s.Server.Addr)
	s.becomesFine()
	s.Delete(s.root.Head())
	if v := s.becomesFaulty(); v.First == nil || v.First.Kind != verify.Mismatch {
		t.Errorf("%+v", v.First)
	}
}

// laggard answers the first look at head as it was some turns ago.
type laggard struct {
	elect.Session
	root filelock.Root
	old  frame.Head
	lags *atomic.Int32
}

func (l *laggard) Watch(ctx context.Context, node string) (session.Node, error) {
	return l.lag(l.Session.Watch(ctx, node))(node)
}

func (l *laggard) Get(ctx context.Context, node string) (session.Node, error) {
	return l.lag(l.Session.Get(ctx, node))(node)
}

func (l *laggard) lag(there session.Node, err error) func(string) (session.Node, error) {
	return func(node string) (session.Node, error) {
		if node == l.root.Head() && l.lags.Add(-1) >= 0 {
			there.Data = l.old.Encode()
		}
		return there, err
	}
}

// TestAnAnswerThatLagsBehindCondemnsNothing has the first answers about head be old, though
// the file already has more.
func TestAnAnswerThatLagsBehindCondemnsNothing(t *testing.T) {
	s := newSite(t)
	s.turns(3)
	old := s.head
	s.turns(2)
	var lags atomic.Int32
	lags.Store(2) // the first and the last look of one pass
	s.auditor("one", s.Server.Addr, func(o *audit.Options) {
		dial := o.Dial
		o.Dial = func(ctx context.Context, notify func(session.State)) (elect.Session, error) {
			sess, err := dial(ctx, notify)
			return &laggard{sess, s.root, old, &lags}, err
		}
	})
	s.becomesFine()
	if _, version := s.verdict(); version != 1 || lags.Load() > 0 { // after "checking"
		t.Errorf("the verdict was written %d times, %d old answers are left", version+1, lags.Load())
	}
}
