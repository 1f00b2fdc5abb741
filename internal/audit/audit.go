// Package audit is the fleet's auditor: one of those who stand for it is elected, and
// judges the shared file as it grows, turn by turn, with package verify.
//
// # What is promised
//
// The verdict in ZooKeeper is that of whoever leads: it is written in one transaction
// with a check of the leadership, so that an auditor that was deposed, and does not know
// it yet, never overwrites its successor's.
//
// An auditor trusts nobody before it: elected, it reads the file from its beginning once,
// and from then on only what is new. It is woken by head, and rests between two readings;
// when nothing is committed it does nothing at all.
//
// Before it says that something is wrong it asks a quorum of ZooKeeper for head and reads
// the whole file again: an answer from a server that lags behind condemns no file.
//
// A turn that is committed and not in the file yet is no fault: the verdict stops before
// it, and the file is looked at again until it is there.
//
// # What is not
//
// What was judged is not read again while nothing is wrong and the file is the same one
// and no shorter. A byte that changes there later is found by the next auditor, or by
// `agent verify`.
package audit

import (
	"context"
	"errors"
	"math/rand/v2"
	"path"
	"time"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/elect"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/session"
)

// Election is the name of the auditors' election.
const Election = "auditor"

const (
	// rest is how long at least an auditor rests between the beginnings of two readings.
	rest = 200 * time.Millisecond
	// mostLag is how long at most it rests while committed turns are not in the file.
	mostLag = 2 * time.Second
	// share is how many times the time that the last reading took it rests when the
	// file is known to be damaged, and is read from its beginning each time.
	share = 20
	// leastRetry and mostRetry bound how long it stands back when it cannot do its work.
	leastRetry = time.Second
	mostRetry  = time.Minute
)

// Options for an auditor. Dial, Root, File and Who are required.
type Options struct {
	Dial func(ctx context.Context, notify func(session.State)) (elect.Session, error)
	Root filelock.Root // the fleet's node
	File string
	Who  queue.Member
	// Open, when set, opens the file: for volumes where a plain read is stale.
	Open  func(path string) (verify.Source, error)
	Lives queue.Lifelines // the agents' own, see elect.Runner
	Log   *zap.Logger
}

// Auditor stands for auditor until it is told to stop.
type Auditor struct {
	Options
	last   *Verdict // the last one published, of this auditor
	worked bool     // since it stood last, a reading came to its end
}

// New makes an auditor that does not stand yet.
func New(opts Options) *Auditor {
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	if opts.Open == nil {
		opts.Open = verify.OpenPlain
	}
	return &Auditor{Options: opts}
}

// Last is the last verdict that this auditor published, nil when there is none. It must
// not be called while Run runs.
func (a *Auditor) Last() *Verdict { return a.last }

// Run stands for auditor, and audits when elected, until ctx ends. When it cannot do its
// work, as when it cannot read the file, it resigns, and stands again after a while that
// doubles from time to time.
func (a *Auditor) Run(ctx context.Context) {
	runner := elect.Runner{
		Dial: a.Dial, Dir: electionDir(string(a.Root)), Who: a.Who, Log: a.Log, Lives: a.Lives, Shared: true,
	}
	for wait := leastRetry; ; wait = min(2*wait, mostRetry) {
		a.worked = false
		err := runner.Run(ctx, a.lead)
		if ctx.Err() != nil {
			return
		}
		if a.worked {
			wait = leastRetry
		}
		a.Log.Warn("not auditing for now", zap.Error(err), zap.Duration("again_after", wait))
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
			return
		}
	}
}

// lead audits while it leads. Its error is what keeps it from its work.
func (a *Auditor) lead(ctx context.Context, l *elect.Leadership) error {
	a.Log.Info("elected auditor", zap.String("auditor", a.Who.Agent), zap.Stringer("token", frame.Token(l.Token())))
	t := newTerm(a, l)
	err := t.audit(ctx)
	if errors.Is(err, queue.ErrLost) {
		<-ctx.Done() // as soon as we are told so as well
	}
	if ctx.Err() != nil {
		return err
	}
	failed := Verdict{Verdict: Failed, Error: err.Error()}
	return errors.Join(err, t.publish(ctx, failed))
}

func electionDir(root string) string { return path.Join(root, "elections", Election) }
func verdictNode(root string) string { return path.Join(root, "audit") }
