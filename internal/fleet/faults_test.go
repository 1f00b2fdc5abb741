package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/session"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// script is a source with all its records at hand, one a turn. It asks for each place
// on its own, so that before is called when the agent has none.
type script struct {
	name   string
	count  int
	before func(turn int) // from 0; nil: nothing is done between turns
	during func(turn int) // when it has the turn, before it writes; nil: nothing

	next   int // the record to be acknowledged next
	called int // before
	taken  bool
	took   int // how often during was called
}

func (s *script) Wait(ctx context.Context) error {
	if s.next == s.count {
		return io.EOF
	}
	if s.before != nil && s.called == s.next {
		s.called++
		s.before(s.next)
	}
	return ctx.Err()
}

func (s *script) record(n int) string { return fmt.Sprintf("%s %d", s.name, n) }

func (s *script) Take(uint64) [][]byte {
	s.taken = true
	if s.during != nil && s.took == s.next { // not again when the turn was lost
		s.took++
		s.during(s.next)
	}
	return [][]byte{[]byte(s.record(s.next))}
}

func (s *script) With() []any { return nil }
func (s *script) More() bool  { return false }

func (s *script) Ack() {
	if !s.taken {
		panic("acknowledged what was not taken")
	}
	s.next, s.taken = s.next+1, false
}

func (s *script) Pending() int { return s.count - s.next }

// run runs an agent to its end, which must come in time.
func (s *site) run(opts fleet.Options) error {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	err := fleet.New(opts).Run(ctx)
	if ctx.Err() != nil {
		s.t.Fatal("the agent does not end")
	}
	return err
}

// turns has an agent write so many turns.
func (s *site) turns(name string, n int) {
	s.t.Helper()
	if err := s.run(s.calm(&script{name: name, count: n})); err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
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
	o := &outing{t: s.t, agent: fleet.New(opts), said: said, stop: stop, ended: make(chan error, 1)}
	go func() { o.ended <- o.agent.Run(ctx) }()
	s.t.Cleanup(func() { stop(); o.wait() })
	return o
}

// wait waits until the agent has ended, and tells how. It may be called twice.
func (o *outing) wait() error {
	o.t.Helper()
	o.once.Do(func() {
		select {
		case o.err = <-o.ended:
		case <-time.After(30 * time.Second):
			o.t.Error("the agent does not end; it says:")
			for _, e := range o.said.All() {
				o.t.Log(e.Message, e.ContextMap())
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
		var got []string
		for _, r := range all {
			if strings.HasPrefix(r, script.name+" ") {
				got = append(got, r)
			}
		}
		for n := range script.count {
			if n >= len(got) || got[n] != script.record(n) {
				s.t.Fatalf("%s: wrote %d records, the file holds %q", script.name, script.count, got)
			}
		}
		if len(got) != script.count {
			s.t.Errorf("%s: wrote %d records, the file holds %d", script.name, script.count, len(got))
		}
	}
	if len(all) != total {
		s.t.Errorf("the file holds %d records, %d were written: %q", len(all), total, all)
	}
}

// everything is the content of the site's files by name; links are not followed.
func (s *site) everything() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	err := filepath.Walk(s.dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		if info.Mode()&os.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			all[path] = "-> " + target
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = string(text)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

func (s *site) wantUnchanged(before map[string]string) {
	s.t.Helper()
	after := s.everything()
	for path, text := range before {
		if after[path] != text {
			s.t.Errorf("%s was changed: %d bytes, were %d", path, len(after[path]), len(text))
		}
		delete(after, path)
	}
	for path := range after {
		s.t.Errorf("%s was made", path)
	}
}

// wantRefused makes sure that it was a refusal that tells the next step.
func wantRefused(t testing.TB, what string, err error) {
	t.Helper()
	var refused *writer.RefusedError
	if !errors.As(err, &refused) || refused.Next == "" {
		t.Errorf("%s: got %v, want a refusal with the next step", what, err)
	}
}

func (s *site) orphans() (texts []string) {
	s.t.Helper()
	for path, text := range s.everything() {
		if filepath.Base(filepath.Dir(path)) == "data.txt.orphans" {
			texts = append(texts, text)
		}
	}
	slices.Sort(texts)
	return texts
}

func (s *site) read() []byte {
	s.t.Helper()
	text, err := os.ReadFile(s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// put changes a file's content in place: the inode stays.
func (s *site) put(suffix string, text []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path+suffix, text, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// look asks for the fleet's status.
func (s *site) look(sess fleet.Session) fleet.Status {
	s.t.Helper()
	status, err := fleet.Look(s.t.Context(), sess, s.root, "test")
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}

// evict removes whoever has the turn.
func (s *site) evict(sess fleet.Session) {
	s.t.Helper()
	holder := s.look(sess).Holder
	if holder == nil {
		s.t.Error("nobody has the turn")
		return
	}
	if err := filelock.Evict(s.t.Context(), sess, s.root, holder.Place); err != nil {
		s.t.Error(err)
	}
}

// calm are the options of an agent whose sessions outlive a machine that is busy.
func (s *site) calm(source fleet.Source) fleet.Options {
	opts := s.options(source)
	opts.Dial = dialFor(s.zk, func(fleet.Session) {})
	return opts
}

// onlooker is a session that outlives a machine that is busy.
func (s *site) onlooker() fleet.Session {
	s.t.Helper()
	sess, err := dialFor(s.zk, func(fleet.Session) {})(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(sess.Close)
	return sess
}

// dialFor dials servers and tells of each session.
func dialFor(servers string, got func(fleet.Session)) func(context.Context) (fleet.Session, error) {
	return func(ctx context.Context) (fleet.Session, error) {
		sess, err := session.Dial(ctx, session.Options{
			Servers: strings.Split(servers, ","), Timeout: 20 * time.Second, ConnectTimeout: 10 * time.Second,
		})
		if err != nil {
			return nil, err
		}
		got(sess)
		return sess, nil
	}
}
