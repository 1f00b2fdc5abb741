package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/audit"
	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/elect"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
)

// site is a file and its head, without agents: the test commits.
type site struct {
	*recipetest.Stage
	t    *testing.T
	root filelock.Root
	path string
	head frame.Head
	old  frame.Head
	last frame.Turn // that was made, with its node or not
}

func newSite(t *testing.T) *site {
	s := &site{Stage: recipetest.NewStage(t), t: t, root: "/turnstile/stage", path: filepath.Join(t.TempDir(), "data.txt")}
	if err := filelock.Ensure(recipetest.Background(t), s.Sess, s.root); err != nil {
		t.Fatal(err)
	}
	inc := frame.Incarnation{ID: uuid.New(), From: 1}
	s.append([]byte(inc.Line() + "\n"))
	s.head = frame.Begin(inc, 0, nil, "a", time.Unix(1.8e9, 0))
	return s
}

func (s *site) append(data []byte) {
	s.t.Helper()
	f, err := os.OpenFile(s.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.Write(data)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// make makes a turn of one record, which is neither committed nor written.
func (s *site) make() {
	header := frame.Header{Agent: "a", Token: s.head.Token + 1, At: time.Unix(1.8e9, 0).UTC()}
	s.last = s.head.Next(header, uuid.New(), [][]byte{fmt.Appendf(nil, "this is turn %d", s.head.Turn+1)})
	s.head = s.head.After(s.last.Header, len(s.last.Bytes))
}

// write makes a turn and appends it, though it is not committed.
func (s *site) write() {
	s.t.Helper()
	s.make()
	s.append(s.last.Bytes)
}

// node gives the last turn its node; drop takes it away.
func (s *site) node() {
	s.t.Helper()
	if _, err := s.Sess.Create(recipetest.Background(s.t), s.root.Turn(s.last.Incarnation, s.last.Number), s.last.Encode(), 0); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) drop() { s.Delete(s.root.Turn(s.last.Incarnation, s.last.Number)) }

// commit makes head what it is.
func (s *site) commit() {
	s.t.Helper()
	ctx, node := recipetest.Background(s.t), s.root.Head()
	_, err := s.Sess.Create(ctx, node, s.head.Encode(), 0)
	if errors.Is(err, zk.ErrNodeExists) {
		_, err = s.Sess.Set(ctx, node, s.head.Encode(), -1)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) turns(n int) {
	s.t.Helper()
	for range n {
		s.write()
		s.commit()
	}
}

// flip changes a byte of the file.
func (s *site) flip(at int64) {
	s.t.Helper()
	data, err := os.ReadFile(s.path)
	if err == nil {
		data[at] ^= 1
		err = os.WriteFile(s.path, data, 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// auditor is one that runs until stop.
type auditor struct {
	*audit.Auditor
	stop func()
}

// expires gives an auditor sessions with this timeout.
func expires(addr string, timeout time.Duration) func(*audit.Options) {
	return func(o *audit.Options) {
		o.Dial = func(ctx context.Context, notify func(session.State)) (elect.Session, error) {
			return session.Dial(ctx, session.Options{
				Servers: []string{addr}, Timeout: timeout, ConnectTimeout: recipetest.Patience, Notify: notify,
			})
		}
	}
}

func (s *site) auditor(name, addr string, change ...func(*audit.Options)) *auditor {
	opts := audit.Options{
		Root: s.root, File: s.path, Who: queue.Member{Agent: name, BootID: "b"},
	}
	expires(addr, 20*time.Second)(&opts)
	for _, c := range change {
		c(&opts)
	}
	a := &auditor{Auditor: audit.New(opts)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.Run(ctx)
	}()
	a.stop = func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(recipetest.Patience):
			s.t.Error("the auditor does not end")
		}
	}
	s.t.Cleanup(a.stop)
	return a
}

// verdict is the one that stands in ZooKeeper, and its version.
func (s *site) verdict() (v audit.Verdict, version int32) {
	s.t.Helper()
	node, err := s.Sess.Get(recipetest.Background(s.t), string(s.root)+"/audit")
	if errors.Is(err, zk.ErrNoNode) {
		return v, -1
	}
	if err == nil {
		err = json.Unmarshal(node.Data, &v)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return v, node.Stat.Version
}

// becomes waits until the verdict is what holds tells.
func (s *site) becomes(what string, holds func(audit.Verdict) bool) (v audit.Verdict) {
	s.t.Helper()
	defer func() {
		if s.t.Failed() {
			s.t.Logf("the verdict is %+v", v)
		}
	}()
	recipetest.Eventually(s.t, what, func() bool { v, _ = s.verdict(); return holds(v) })
	return v
}

func (s *site) becomesFine() audit.Verdict {
	s.t.Helper()
	return s.becomes(fmt.Sprintf("fine up to turn %d", s.head.Turn), func(v audit.Verdict) bool {
		return v.Verdict == audit.Fine && v.Turn == s.head.Turn
	})
}

func (s *site) becomesFaulty() audit.Verdict {
	s.t.Helper()
	return s.becomes("not whole", func(v audit.Verdict) bool { return v.Verdict == audit.Faults })
}
