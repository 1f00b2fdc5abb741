package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/inbox"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
)

const calm = 20 * time.Second // a session timeout that no test waits for

// box is an inbox on a server of the test's own.
type box struct {
	*recipetest.Stage
	t   *testing.T
	dir inbox.Dir
}

func newBox(t *testing.T) *box {
	t.Helper()
	s := recipetest.NewStage(t)
	b := &box{Stage: s, t: t, dir: inbox.Dir(s.Dir)}
	if err := inbox.Ensure(t.Context(), s.Sess, b.dir); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *box) dialer(addr string, timeout time.Duration) func(context.Context) (*session.Session, error) {
	return func(ctx context.Context) (*session.Session, error) {
		return session.Dial(ctx, session.Options{
			Servers: []string{addr}, Timeout: timeout, ConnectTimeout: recipetest.Patience,
			Log: zaptest.NewLogger(b.t, zaptest.Level(zap.ErrorLevel)),
		})
	}
}

// sender gives one that sends over addr; opts change what is usual.
func (b *box) sender(addr string, opts ...func(*inbox.SenderOptions)) *inbox.Sender {
	b.t.Helper()
	o := inbox.SenderOptions{
		Dial: b.dialer(addr, calm), Dir: b.dir, Who: queue.Member{Agent: "sender"},
		Priority: inbox.DefaultPriority, Limit: inbox.DefaultLimit, Patience: inbox.Forever,
	}
	for _, opt := range opts {
		opt(&o)
	}
	s := inbox.NewSender(o)
	b.t.Cleanup(s.Close)
	return s
}

func priority(p int) func(*inbox.SenderOptions) {
	return func(o *inbox.SenderOptions) { o.Priority = p }
}

// send sends records with a sender of their own.
func (b *box) send(p int, records ...string) []string {
	b.t.Helper()
	s := b.sender(b.Server.Addr, priority(p))
	defer s.Close()
	names, err := s.Send(recipetest.Background(b.t), raw(records)...)
	if err != nil {
		b.t.Fatal(err)
	}
	return names
}

func raw(records []string) [][]byte {
	var out [][]byte
	for _, r := range records {
		out = append(out, []byte(r))
	}
	return out
}

func text(records [][]byte) string { return string(slices.Concat(joined(records)...)) }

func joined(records [][]byte) (parts [][]byte) {
	for i, r := range records {
		if i > 0 {
			parts = append(parts, []byte(" "))
		}
		parts = append(parts, r)
	}
	return parts
}

// messages gives the records that wait, in the order of their names.
func (b *box) messages() (records []string) {
	b.t.Helper()
	names, err := b.Sess.Children(recipetest.Background(b.t), b.dir.Messages())
	if err != nil {
		b.t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		node, err := b.Sess.Get(recipetest.Background(b.t), path.Join(b.dir.Messages(), name))
		if errors.Is(err, zk.ErrNoNode) { // taken meanwhile
			continue
		}
		if err != nil {
			b.t.Fatal(err)
		}
		records = append(records, string(node.Data))
	}
	return records
}

func (b *box) want(records ...string) {
	b.t.Helper()
	if got := b.messages(); strings.Join(got, " ") != strings.Join(records, " ") {
		b.t.Errorf("%d messages wait: %.300q; want %d", len(got), strings.Join(got, " "), len(records))
	}
}

// source gives one that reads over addr.
func (b *box) source(addr, run string, opts ...func(*inbox.SourceOptions)) *inbox.Source {
	b.t.Helper()
	o := inbox.SourceOptions{
		Dial: b.dialer(addr, calm), Dir: b.dir, Run: run,
		Who:        func() queue.Member { return queue.Member{Agent: run, BootID: "boot"} },
		MaxRecords: most(1000), MaxBytes: 1 << 20,
		Log: zaptest.NewLogger(b.t, zaptest.Level(zap.ErrorLevel)),
	}
	for _, opt := range opts {
		opt(&o)
	}
	s := inbox.NewSource(o)
	b.t.Cleanup(s.Close)
	return s
}

// take waits for records and takes them.
func (b *box) take(s *inbox.Source) string {
	b.t.Helper()
	if err := s.Wait(recipetest.Background(b.t)); err != nil {
		b.t.Fatal(err)
	}
	return text(s.Take(1))
}

// commit is what an agent does with what was taken, all in one transaction.
func (b *box) commit(s *inbox.Source) error {
	results, err := b.Sess.Multi(recipetest.Background(b.t), s.With()...)
	if err != nil {
		s.Back()
		s.Gone(slices.IndexFunc(results, func(r zk.MultiResponse) bool { return r.Error != nil && session.Definite(r.Error) }))
		return err
	}
	s.Committed()
	s.Ack()
	return nil
}

func numbered(prefix string, n int) (records []string) {
	for i := range n {
		records = append(records, fmt.Sprintf("%s-%d", prefix, i+1))
	}
	return records
}

func most(n int) func() int { return func() int { return n } }
