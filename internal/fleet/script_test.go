package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// script is a source with all its records at hand, one a turn. It asks for each place
// on its own, unless more is set.
type script struct {
	name   string
	count  int
	pad    int           // each record has at least so many bytes
	more   bool          // whoever commits takes the next place at once
	gate   chan struct{} // until it is closed there are no more than gated turns; nil: there is none
	gated  int
	before func(turn int) // from 0; when all before it is acknowledged; nil: nothing
	during func(turn int) // when it has the turn, before its commit; nil: nothing
	acking func(turn int) // when it is acknowledged; nil: nothing
	lost   func(turn int) // when it is given back; nil: nothing

	mu     sync.Mutex
	next   int // the record to be committed next
	acked  int
	called int  // before
	took   int  // how often during was called
	taken  bool // and neither committed nor given back
	most   int  // so many were committed and not acknowledged, at most
	wrong  string
	moved  chan struct{}
}

// change is closed when something has changed. The caller has the lock.
func (s *script) change() chan struct{} {
	if s.moved == nil {
		s.moved = make(chan struct{})
	}
	return s.moved
}

func (s *script) changed() {
	close(s.change())
	s.moved = nil
}

func (s *script) Wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		next, acked, moved := s.next, s.acked, s.change()
		gate := s.gate
		if next < s.gated {
			gate = nil
		}
		due := s.before != nil && s.called == next
		if due && acked == next {
			s.called++
		}
		s.mu.Unlock()
		if gate != nil && next < s.count {
			select {
			case <-gate:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		switch {
		case next == s.count:
			return io.EOF
		case !due:
			return ctx.Err()
		case acked == next:
			s.before(next)
			return ctx.Err()
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *script) record(n int) string {
	r := fmt.Sprintf("%s %d", s.name, n)
	return r + strings.Repeat(" ", max(0, s.pad-len(r)))
}

func (s *script) Take(uint64) [][]byte {
	s.mu.Lock()
	next := s.next
	due := s.during != nil && s.took == next // not again when the turn was lost
	if due {
		s.took++
	}
	if s.taken {
		s.wrong = "asked for more before it was told what became of the last"
	}
	s.taken = true
	s.mu.Unlock()
	if due {
		s.during(next)
	}
	return [][]byte{[]byte(s.record(next))}
}

func (s *script) With() []any   { return nil }
func (s *script) Gone(int) bool { return true }

func (s *script) More() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate != nil && s.next+1 >= s.gated {
		return false
	}
	return s.more && s.next+1 < s.count
}

func (s *script) Committed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustBeTaken("committed")
	s.next++
	s.most = max(s.most, s.next-s.acked)
	s.changed()
}

func (s *script) Back() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustBeTaken("given back")
	if s.lost != nil {
		s.lost(s.next)
	}
}

func (s *script) mustBeTaken(what string) {
	if !s.taken {
		s.wrong = what + " what was not taken"
	}
	s.taken = false
}

func (s *script) Ack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.acked >= s.next {
		s.wrong = "acknowledged what was not committed"
	}
	if s.acking != nil {
		s.acking(s.acked)
	}
	s.acked++
	s.changed()
}

func (s *script) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count - s.acked
}

// at is how many were committed, and acknowledged.
func (s *script) at() (committed, acked int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next, s.acked
}

// rest is a script that goes on where this one's commits ended.
func (s *script) rest() *script {
	next, _ := s.at()
	return &script{name: s.name, count: s.count, pad: s.pad, more: s.more, next: next, acked: next}
}

func (s *script) mostUnder() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

// run runs an agent to its end, which must come in time.
func (s *site) run(opts fleet.Options) error {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	err := s.agent(opts).Run(ctx)
	if ctx.Err() != nil {
		s.t.Fatal("the agent does not end")
	}
	return err
}

// agent makes an agent, which is patient with its volume when the site's agents are.
func (s *site) agent(opts fleet.Options) *fleet.Agent {
	agent := fleet.New(opts)
	if s.patient {
		agent.SetBound(time.Hour) // so that it is a quarter of the session's timeout
	}
	return agent
}

// turns has an agent write so many turns.
func (s *site) turns(name string, n int) {
	s.t.Helper()
	if err := s.run(s.calm(&script{name: name, count: n})); err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
}

// begun is a site whose file has a turn already, of before's.
func begun(t testing.TB) *site {
	t.Helper()
	s := newSite(t, zktest.Shared(t))
	s.turns("before", 1)
	return s
}

// outing is an agent in the background.
type outing struct {
	t     testing.TB
	agent *fleet.Agent
	said  *observer.ObservedLogs
	stop  context.CancelFunc
	ended chan error
	once  sync.Once
	err   error
}

func (s *site) start(opts fleet.Options) *outing {
	s.t.Helper()
	core, said := observer.New(zap.InfoLevel)
	opts.Log = zap.New(core)
	ctx, stop := context.WithCancel(s.t.Context())
	o := &outing{t: s.t, agent: s.agent(opts), said: said, stop: stop, ended: make(chan error, 1)}
	go func() { o.ended <- o.agent.Run(ctx) }()
	s.t.Cleanup(func() { stop(); _ = o.wait() })
	return o
}

// wait waits until the agent has ended, and tells how. It may be called twice.
func (o *outing) wait() error {
	o.t.Helper()
	o.once.Do(func() {
		select {
		case o.err = <-o.ended:
		case <-time.After(30 * time.Second):
			o.err = errors.New("it does not end")
			o.t.Error("the agent does not end")
		}
		if o.t.Failed() {
			for _, e := range o.said.All() {
				o.t.Log(e.Time.Format("05.000"), e.Message, e.ContextMap())
			}
		}
	})
	return o.err
}

func (o *outing) says(text string) bool { return o.said.FilterMessageSnippet(text).Len() > 0 }

// wantOnce makes sure that each record of the scripts is in the file once and, those of
// one script, in order.
func (s *site) wantOnce(scripts ...*script) {
	s.t.Helper()
	all := s.records()
	total := 0
	for _, script := range scripts {
		total += script.count
		if script.wrong != "" {
			s.t.Errorf("%s: %s", script.name, script.wrong)
		}
		var got []string
		for _, r := range all {
			if strings.HasPrefix(r, script.name+" ") {
				got = append(got, r)
			}
		}
		for n := range script.count {
			if n >= len(got) || got[n] != script.record(n) {
				s.t.Fatalf("%s: wrote %d records, the file holds %q", script.name, script.count, clip(got))
			}
		}
		if len(got) != script.count {
			s.t.Errorf("%s: wrote %d records, the file holds %d", script.name, script.count, len(got))
		}
	}
	if len(all) != total {
		s.t.Errorf("the file holds %d records, %d were written: %q", len(all), total, clip(all))
	}
}

func clip(records []string) (short []string) {
	for _, r := range records {
		short = append(short, strings.TrimRight(r, " "))
	}
	return short
}
