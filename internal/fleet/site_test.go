package fleet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/follow"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/lifeline"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// site is a fleet's place: a file and a root that no other test has.
type site struct {
	t    testing.TB
	zk   string
	root filelock.Root
	dir  string
	path string

	patient bool // its agents wait for their volume for longer, before they are held up
}

func newSite(t testing.TB, zk string) *site {
	dir := t.TempDir()
	return &site{t: t, zk: zk, root: filelock.Root(zktest.Root(t)), dir: dir, path: filepath.Join(dir, "data.txt")}
}

func (s *site) dialer(zk string) func(context.Context) (fleet.Session, error) {
	return func(ctx context.Context) (fleet.Session, error) {
		sess, err := session.Dial(ctx, session.Options{
			Servers: strings.Split(zk, ","), Timeout: 2 * time.Second, ConnectTimeout: 5 * time.Second,
			Log: zaptest.NewLogger(s.t, zaptest.Level(zap.ErrorLevel)),
		})
		if err != nil {
			return nil, err
		}
		return sess, nil
	}
}

// file is the shared file as one agent has it.
func (s *site) file(fs writer.FS) *writer.File {
	s.t.Helper()
	file, err := writer.Open(writer.Options{Path: s.path, FS: fs})
	if err != nil {
		s.t.Fatal(err)
	}
	return file
}

func (s *site) options(source fleet.Source) fleet.Options {
	s.t.Helper()
	return fleet.Options{
		Dial: s.dialer(s.zk), Root: s.root, Host: "host", BootID: "boot", Source: source,
		File: s.file(nil), Lives: lifeline.Dir(s.alive()),
	}
}

func (s *site) alive() string { return s.path + ".alive" }

// calm are the options of an agent whose sessions outlive a machine that is busy.
func (s *site) calm(source fleet.Source) fleet.Options {
	s.t.Helper()
	opts := s.options(source)
	opts.Dial = dialFor(s.zk, func(fleet.Session) {})
	return opts
}

// on are the options of a calm agent for whom the volume is fs.
func (s *site) on(fs writer.FS, source fleet.Source) fleet.Options {
	s.t.Helper()
	opts := s.calm(source)
	opts.File = s.file(fs)
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

// judge holds the file to ZooKeeper and to the acknowledgement logs.
func (s *site) judge(acks ...string) verify.Report {
	s.t.Helper()
	sess := s.onlooker()
	report, err := verify.File(s.t.Context(), s.path, verify.Options{
		Head: func(ctx context.Context) (*frame.Head, error) { return follow.Head(ctx, sess, s.root) },
		Turns: func(ctx context.Context, head frame.Head) ([]frame.Turn, []error, error) {
			return follow.Turns(ctx, sess, s.root, head, 0)
		},
		Final: func(ctx context.Context) (*frame.Head, error) { return follow.Final(ctx, sess, s.root) },
		Acks:  acks,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return report
}

// verify is judge, and all must be well: committed, and in the file.
func (s *site) verify(acks ...string) verify.Report {
	s.t.Helper()
	report := s.judge(acks...)
	for _, f := range slices.Concat(report.Findings, report.Notes) {
		s.t.Errorf("%s at byte %d, turn %d: %s", f.Kind, f.Offset, f.Turn, f.Text)
	}
	return report
}

// records gives the file's records alone, as grep -v '^#' would.
func (s *site) records() []string {
	s.t.Helper()
	return recordsIn(s.read())
}

func recordsIn(text []byte) (records []string) {
	for line := range bytes.Lines(text) {
		if line[0] != '#' {
			records = append(records, strings.TrimSuffix(string(line), "\n"))
		}
	}
	return records
}

// tryRecords is records, and none while there is no file.
func (s *site) tryRecords() []string {
	text, err := os.ReadFile(s.path)
	if err != nil {
		return nil
	}
	return recordsIn(text)
}

func (s *site) read() []byte {
	s.t.Helper()
	text, err := os.ReadFile(s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// put changes the file's content in place: the inode stays.
func (s *site) put(text []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path, text, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// until waits for what other goroutines bring about, as long as the test may run.
func (s *site) until(what string, true func() bool) {
	s.t.Helper()
	s.within(30*time.Second, what, true)
}

// within is until, with a bound that is part of what is promised.
func (s *site) within(patience time.Duration, what string, true func() bool) {
	s.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	enough := time.After(patience)
	for !true() {
		select {
		case <-tick.C:
		case <-enough:
			s.t.Fatalf("waited in vain until %s", what)
		}
	}
}

// everything is the content of the site's plain files by name; links are not followed.
func (s *site) everything() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	err := filepath.Walk(s.dir, func(path string, info os.FileInfo, err error) error {
		switch {
		case err != nil:
			return err
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			all[path] = "-> " + target
			return err
		case !info.Mode().IsRegular(): // markers among them, which come and go
			return nil
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

func ackLog(t testing.TB, path string) *fleet.AckLog {
	t.Helper()
	acks, err := fleet.OpenAckLog(path)
	// A child that is being started has all that is open, for a moment.
	for end := time.Now().Add(5 * time.Second); err != nil && strings.Contains(err.Error(), "in use by another process") && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
		acks, err = fleet.OpenAckLog(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { acks.Close() })
	return acks
}

func numbered(prefix string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s %d\n", prefix, i+1)
	}
	return b.String()
}
