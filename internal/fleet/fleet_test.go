package fleet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/session"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/internal/zktest"
)

// site is a fleet's place: a file and a root that no other test has.
type site struct {
	t    testing.TB
	zk   string
	root filelock.Root
	dir  string
	path string
}

func newSite(t testing.TB, zk string) *site {
	dir := t.TempDir()
	return &site{t: t, zk: zk, root: filelock.Root(zktest.Root(t)), dir: dir, path: filepath.Join(dir, "data.txt")}
}

func (s *site) dialer(zk string) func(context.Context) (fleet.Session, error) {
	return func(ctx context.Context) (fleet.Session, error) {
		return session.Dial(ctx, session.Options{
			Servers: strings.Split(zk, ","), Timeout: 2 * time.Second, ConnectTimeout: 5 * time.Second,
			Log: zaptest.NewLogger(s.t, zaptest.Level(zap.ErrorLevel)),
		})
	}
}

func (s *site) options(source fleet.Source) fleet.Options {
	return fleet.Options{
		Dial: s.dialer(s.zk), Root: s.root, Host: "host", BootID: "boot", Source: source,
		Open: func(agent string) (*writer.File, error) {
			return writer.Open(writer.Options{Path: s.path, Agent: agent, Wait: 5 * time.Second})
		},
	}
}

func (s *site) session() fleet.Session {
	s.t.Helper()
	sess, err := s.dialer(s.zk)(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(sess.Close)
	return sess
}

// verify holds the file to head and to the acknowledgement logs.
func (s *site) verify(acks ...string) verify.Report {
	s.t.Helper()
	sess := s.onlooker()
	report, err := verify.File(s.t.Context(), s.path, verify.Options{
		Head: func(ctx context.Context) (*frame.Head, error) { return fleet.Head(ctx, sess, s.root) },
		Acks: acks,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range report.Findings {
		s.t.Errorf("%s at byte %d, turn %d: %s", f.Kind, f.Offset, f.Turn, f.Text)
	}
	return report
}

// records gives the file's records alone, as grep -v '^#' would.
func (s *site) records() []string {
	s.t.Helper()
	text, err := os.ReadFile(s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	var records []string
	for line := range bytes.Lines(text) {
		if line[0] != '#' {
			records = append(records, strings.TrimSuffix(string(line), "\n"))
		}
	}
	return records
}

func ackLog(t testing.TB, path string) *fleet.AckLog {
	t.Helper()
	acks, err := fleet.OpenAckLog(path)
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

func TestAgentsWriteTheirInputWholeAndInOrder(t *testing.T) {
	s := newSite(t, zktest.Shared(t))
	const each = 3000
	var group sync.WaitGroup
	for _, name := range []string{"one", "two", "three"} {
		opts := s.options(fleet.NewLines(strings.NewReader(numbered(name, each)), 50, 1<<20))
		opts.Name, opts.Acks = name, ackLog(t, filepath.Join(s.dir, name+".acks"))
		group.Go(func() {
			if err := fleet.New(opts).Run(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	group.Wait()
	report := s.verify(filepath.Join(s.dir, "one.acks"), filepath.Join(s.dir, "two.acks"), filepath.Join(s.dir, "three.acks"))
	if report.Records != 3*each || report.Acknowledged != 3*each {
		t.Errorf("%d records, %d acknowledged, want %d", report.Records, report.Acknowledged, 3*each)
	}
	next := map[string]int{}
	for _, r := range s.records() {
		name, number, _ := strings.Cut(r, " ")
		next[name]++
		if number != fmt.Sprint(next[name]) {
			t.Fatalf("%s: record %s where %d was due", name, number, next[name])
		}
	}
}

func TestTurnNumbersGoOnAfterARestart(t *testing.T) {
	s := newSite(t, zktest.Shared(t))
	for range 2 {
		ticker := &fleet.Ticker{Agent: func() string { return "me" }, Lines: 2, Turns: 3}
		if err := fleet.New(s.options(ticker)).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if report := s.verify(); report.Last != 6 || report.Turns != 6 {
		t.Errorf("%d turns, the last %d, want 6", report.Turns, report.Last)
	}
}

func TestIdenticalAgentsTakeTheLowestFreeNames(t *testing.T) {
	s := newSite(t, zktest.Shared(t))
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	agents := make([]*fleet.Agent, 4)
	for i := range agents {
		a := (*fleet.Agent)(nil)
		a = fleet.New(s.options(&fleet.Ticker{Agent: func() string { return a.Called() }, Lines: 1}))
		agents[i] = a
		group.Go(func() {
			if err := a.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	s.until("all four wrote", func() bool { return len(distinct(s.tryRecords())) == 4 })
	stop()
	group.Wait()
	names := distinct(s.records())
	for i := range agents {
		if want := fmt.Sprintf("agent-%d", i+1); !names[want] {
			t.Errorf("nobody is called %s: %v", want, names)
		}
	}
	s.verify()
}

func distinct(records []string) map[string]bool {
	names := map[string]bool{}
	for _, r := range records {
		if f := strings.Fields(r); len(f) > 2 {
			names[f[2]] = true
		}
	}
	return names
}

func (s *site) tryRecords() []string {
	if _, err := os.Stat(s.path); err != nil {
		return nil
	}
	return s.records()
}

// until waits for what other goroutines bring about, as long as the test may run.
func (s *site) until(what string, true func() bool) {
	s.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	patience := time.After(30 * time.Second)
	for !true() {
		select {
		case <-tick.C:
		case <-patience:
			s.t.Fatalf("waited in vain until %s", what)
		}
	}
}

// TestACommitWhoseAnswerWasLostIsNeitherLostNorDoubled cuts the connection again
// and again around commits, some before they reach the server, some after.
func TestACommitWhoseAnswerWasLostIsNeitherLostNorDoubled(t *testing.T) {
	s := newSite(t, zktest.Shared(t))
	proxy := zktest.NewProxy(t, strings.Split(s.zk, ",")[0])
	var mu sync.Mutex
	multis, lostBefore, lostAfter := 0, 0, 0
	proxy.OnRequest(func(packet []byte) bool {
		if !zktest.IsMulti(packet) {
			return true
		}
		mu.Lock()
		defer mu.Unlock()
		multis++
		switch {
		case multis%7 == 3:
			lostBefore++
			return false
		case multis%7 == 5:
			lostAfter++
			proxy.LoseAnswer()
		}
		return true
	})
	const records = 400
	opts := s.options(fleet.NewLines(strings.NewReader(numbered("r", records)), 5, 1<<20))
	opts.Dial = s.dialer(proxy.Addr)
	opts.Acks = ackLog(t, filepath.Join(s.dir, "acks"))
	if err := fleet.New(opts).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if lostBefore < 5 || lostAfter < 5 {
		t.Errorf("only %d commits and %d answers were lost", lostBefore, lostAfter)
	}
	s.verify(filepath.Join(s.dir, "acks"))
	if got := s.records(); len(got) != records || strings.Join(got, "\n")+"\n" != numbered("r", records) {
		t.Errorf("%d records in the file, want %d, each once, in order", len(got), records)
	}
}

func TestASessionThatExpiresIsAnEverydayEvent(t *testing.T) {
	s := newSite(t, zktest.Shared(t))
	proxy := zktest.NewProxy(t, strings.Split(s.zk, ",")[0])
	opts := s.options(&fleet.Ticker{Agent: func() string { return "x" }, Lines: 1})
	opts.Dial = s.dialer(proxy.Addr)
	agent := fleet.New(opts)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(ctx) }()
	s.until("it wrote", func() bool { return len(s.tryRecords()) > 5 })
	proxy.Refuse(true)
	watcher := s.onlooker()
	s.until("its session is gone", func() bool {
		names, err := watcher.Children(ctx, s.root.Agents())
		return err == nil && len(names) == 0
	})
	before := len(s.records())
	proxy.Refuse(false)
	s.until("it writes again", func() bool { return len(s.records()) > before+5 })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	s.verify()
}

func TestAHaltedFleetEndsWithTheReason(t *testing.T) {
	s := newSite(t, zktest.Shared(t))
	sess := s.session()
	if err := filelock.Ensure(t.Context(), sess, s.root); err != nil {
		t.Fatal(err)
	}
	if _, err := sess.Create(t.Context(), s.root.Halt(), []byte("by hand"), 0); err != nil {
		t.Fatal(err)
	}
	err := fleet.New(s.options(&fleet.Ticker{Agent: func() string { return "x" }, Lines: 1})).Run(t.Context())
	if !errors.Is(err, filelock.ErrHalted) || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("got %v, want the halt and its reason", err)
	}
	if _, err := os.Stat(s.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a halted fleet touched the file: %v", err)
	}
}

func TestABadRecordIsRefusedByNameAfterThoseBeforeItWereWritten(t *testing.T) {
	s := newSite(t, zktest.Shared(t))
	source := fleet.NewLines(strings.NewReader("fine\nalso fine\nbell\a\nnever read\n"), 10, 1<<20)
	err := fleet.New(s.options(source)).Run(t.Context())
	var bad *fleet.RecordError
	if !errors.As(err, &bad) || bad.Line != 3 || !strings.Contains(err.Error(), "U+0007") {
		t.Errorf("got %v, want line 3 refused for U+0007", err)
	}
	if got := s.records(); strings.Join(got, ",") != "fine,also fine" {
		t.Errorf("the file holds %q", got)
	}
}

func TestAFleetRefusesASecondMachine(t *testing.T) {
	s := newSite(t, zktest.Shared(t))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	here := fleet.New(s.calm(&fleet.Ticker{Agent: func() string { return "x" }, Lines: 1}))
	go func() { ended <- here.Run(ctx) }()
	s.until("it wrote", func() bool { return len(s.tryRecords()) > 0 })
	opts := s.options(&fleet.Ticker{Agent: func() string { return "y" }, Lines: 1})
	opts.BootID, opts.Host = "another boot", "elsewhere"
	if err := fleet.New(opts).Run(t.Context()); !errors.Is(err, writer.ErrRefused) {
		t.Errorf("got %v, want a refusal", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
