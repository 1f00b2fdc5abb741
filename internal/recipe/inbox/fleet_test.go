package inbox_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/recipe/inbox"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// crew is a fleet whose agents take their records from an inbox.
type crew struct {
	*box
	root   filelock.Root
	path   string
	expiry time.Duration // its agents' session timeout
}

func newCrew(t *testing.T) *crew {
	b := newBox(t)
	return &crew{box: b, expiry: time.Second, root: filelock.Root(filepath.Dir(b.Dir)), path: filepath.Join(t.TempDir(), "data.txt")}
}

// agent is one that reaches ZooKeeper over addr, with source.
func (c *crew) agent(addr string, source fleet.Source, log *zap.Logger) *fleet.Agent {
	dial := c.dialer(addr, c.expiry)
	file, err := writer.Open(writer.Options{Path: c.path})
	if err != nil {
		c.t.Error(err)
	}
	return fleet.New(fleet.Options{
		Dial: func(ctx context.Context) (fleet.Session, error) { return dial(ctx) },
		Root: c.root, Host: "host", BootID: "boot", File: file, Source: source, Log: log,
	})
}

// records gives the file's records, once the verifier has found nothing wrong.
func (c *crew) records() (records []string) {
	c.t.Helper()
	var head *frame.Head
	report, err := verify.File(c.t.Context(), c.path, verify.Options{
		Head: func(ctx context.Context) (_ *frame.Head, err error) {
			head, err = fleet.Head(ctx, c.Sess, c.root)
			return head, err
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range report.Findings {
		c.t.Errorf("%s at byte %d, turn %d: %s", f.Kind, f.Offset, f.Turn, f.Text)
	}
	text, err := os.ReadFile(c.path)
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range bytes.Lines(text[:head.Offset]) {
		if line[0] != '#' {
			records = append(records, strings.TrimSuffix(string(line), "\n"))
		}
	}
	return records
}

// settle has an agent that has nothing to write bring to the file what those that were cut
// off had committed.
func (c *crew) settle() {
	c.t.Helper()
	input, end := io.Pipe()
	ended := make(chan error, 1)
	idle := c.agent(c.Server.Addr, fleet.NewLines(input, 1, 1<<10), zap.NewNop())
	go func() { ended <- idle.Run(context.Background()) }()
	recipetest.Eventually(c.t, "nothing is left to be written", func() bool {
		left, err := filelock.ListTurns(c.t.Context(), c.Sess, c.root)
		return err == nil && len(left) == 0
	})
	end.Close()
	if err := <-ended; err != nil {
		c.t.Error(err)
	}
}

// wantOnce makes sure that of each sender so many messages are in the file, each once and
// in order, and nothing else.
func (c *crew) wantOnce(senders, each int) {
	c.t.Helper()
	last, total := map[string]int{}, 0
	for _, r := range c.records() {
		var name string
		var n int
		if _, err := fmt.Sscanf(r, "%s %d", &name, &n); err != nil || n != last[name]+1 {
			c.t.Fatalf("%q follows %s %d", r, name, last[name])
		}
		last[name] = n
		total++
	}
	if total != senders*each {
		c.t.Errorf("%d messages are in the file, %d were sent", total, senders*each)
	}
}

// Senders and agents lose answers, connections, sessions and their lives, at random: each
// message is in the file once, in its sender's order.
func TestEachMessageIsInTheFileOnceWhoeverIsCutOffWhen(t *testing.T) {
	t.Parallel()
	const agents, senders, each = 3, 4, 250
	c := newCrew(t)
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	var sending, working sync.WaitGroup
	var wires []*zktest.Proxy
	wire := func() *zktest.Proxy { // on which transactions, or the answers to them, are lost
		p := zktest.NewProxy(t, c.Server.Addr)
		p.OnRequest(func(packet []byte) bool {
			fate := rand.IntN(12)
			if zktest.IsMulti(packet) && fate == 0 {
				p.LoseAnswer()
			}
			return !zktest.IsMulti(packet) || fate != 1
		})
		wires = append(wires, p)
		return p
	}
	for i := range senders {
		addr := wire().Addr
		sending.Go(func() {
			s := c.sender(addr, func(o *inbox.SenderOptions) { o.Dial, o.Limit = c.dialer(addr, time.Second), 200 })
			for n := 0; n < each; n += 5 {
				var batch [][]byte
				for k := range 5 {
					batch = append(batch, fmt.Appendf(nil, "sender-%d %d", i, n+k+1))
				}
				if _, err := s.Send(ctx, batch...); err != nil {
					t.Errorf("sender %d, at %d: %v", i, n, err)
					return
				}
			}
		})
	}
	core, said := observer.New(zap.WarnLevel)
	var deaths atomic.Int32
	for i := range agents {
		addr := wire().Addr
		working.Go(func() {
			for life := 0; ctx.Err() == nil; life++ { // it lives so long, and then another is born
				alive, die := context.WithTimeout(ctx, 200*time.Millisecond+rand.N(2*time.Second))
				source := c.source(addr, fmt.Sprintf("agent-%d-%d", i, life), func(o *inbox.SourceOptions) {
					o.Dial, o.MaxRecords, o.Log = c.dialer(addr, time.Second), most(7), zap.New(core)
				})
				if err := c.agent(addr, source, zap.New(core)).Run(alive); err != nil && alive.Err() == nil {
					t.Error(err)
				}
				source.Close()
				die()
				deaths.Add(1)
			}
		})
	}
	wait := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	ended := make(chan struct{})
	go func() { // breaks a wire now and then, until all is written
		defer close(ended)
		var mended sync.WaitGroup
		defer mended.Wait()
		for ctx.Err() == nil {
			p := wires[rand.IntN(len(wires))]
			p.Cut()
			if rand.IntN(8) == 0 { // for longer than a session lasts
				p.HalfOpen(true)
				mended.Go(func() {
					wait(1500 * time.Millisecond)
					p.HalfOpen(false)
					p.Cut() // who connected meanwhile would wait for an answer
				})
			}
			wait(rand.N(200 * time.Millisecond))
		}
	}()
	sending.Wait()
	for len(c.messages()) > 0 && ctx.Err() == nil {
		wait(5 * time.Millisecond)
	}
	stop()
	working.Wait()
	<-ended
	c.settle()
	c.want()
	c.wantOnce(senders, each)
	t.Logf("%d agents died, %d turns were fenced, %d batches settled", deaths.Load(),
		said.FilterMessageSnippet("fenced").Len(), said.FilterMessageSnippet("finding out").Len())
}

// A message is deleted after it was taken and before the commit: the others are committed
// without it, in the same turn.
func TestAMessageDeletedBeforeTheCommitIsLeftOut(t *testing.T) {
	t.Parallel()
	c := newCrew(t)
	c.expiry = calm
	names := c.send(5, numbered("r", 5)...)
	meddled := &meddled{Source: c.source(c.Server.Addr, "me", func(o *inbox.SourceOptions) { o.Turns = 1 })}
	meddled.meddle = func() { c.Delete(c.dir.Messages() + "/" + names[2]) }
	core, said := observer.New(zap.WarnLevel)
	if err := c.agent(c.Server.Addr, meddled, zap.New(core)).Run(recipetest.Background(t)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.records(), " "); got != "r-1 r-2 r-4 r-5" {
		t.Errorf("the file holds %q", got)
	}
	if said.Len() != 0 {
		t.Errorf("it said %v", said.All())
	}
	c.want()
}

// All of them are: the turn is given up, and those who wait need not wait for a commit
// for each.
func TestManyMessagesThatAreGoneEndTheTurn(t *testing.T) {
	t.Parallel()
	c := newCrew(t)
	c.expiry = calm
	names := c.send(5, numbered("r", 40)...)
	meddled := &meddled{Source: c.source(c.Server.Addr, "me", func(o *inbox.SourceOptions) { o.Turns = 1 })}
	meddled.meddle = func() {
		for _, name := range names {
			c.Delete(c.dir.Messages() + "/" + name)
		}
		c.send(5, "another")
	}
	if err := c.agent(c.Server.Addr, meddled, zap.NewNop()).Run(recipetest.Background(t)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.records(), " "); got != "another" || meddled.takes > 8 {
		t.Errorf("the file holds %q, and there were %d commits", got, meddled.takes)
	}
	c.want()
}

// meddled is a source; somebody interferes once, after the first Take.
type meddled struct {
	*inbox.Source
	meddle func()
	once   sync.Once
	takes  int
}

func (m *meddled) Take(turn uint64) [][]byte {
	defer m.once.Do(m.meddle)
	m.takes++
	return m.Source.Take(turn)
}

// An agent that lost its place at the inbox without knowing takes what another takes too:
// one of the two commits.
func TestTwoWhoTakeTheSameWriteItOnce(t *testing.T) {
	t.Parallel()
	c := newCrew(t)
	c.send(5, numbered("r", 20)...)
	var both sync.WaitGroup
	var ready sync.WaitGroup
	ready.Add(2)
	ctx, stop := context.WithCancel(recipetest.Background(t))
	for _, run := range []string{"a", "b"} {
		s := &meddled{Source: c.source(c.Server.Addr, run)}
		c.take(s.Source)
		for _, place := range c.Ephemeral() { // the other is to be the first too
			c.Delete(place)
		}
		s.meddle = func() {}
		both.Go(func() {
			ready.Done()
			ready.Wait()
			if err := c.agent(c.Server.Addr, &stale{s.Source, false}, zap.NewNop()).Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	recipetest.Eventually(t, "the inbox is empty", func() bool { return len(c.messages()) == 0 })
	stop()
	both.Wait()
	if got := c.records(); strings.Join(got, " ") != strings.Join(numbered("r", 20), " ") {
		t.Errorf("the file holds %v", got)
	}
}

// stale is a source that has taken already, and does not look again before its first turn.
type stale struct {
	*inbox.Source
	waited bool
}

func (s *stale) Wait(ctx context.Context) error {
	if !s.waited {
		s.waited = true
		return nil
	}
	return s.Source.Wait(ctx)
}
