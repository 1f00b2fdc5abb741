package fleet_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
)

// The steps of a turn, and of the beginning of a file: an agent may die at each.
var steps = []string{
	"begin.before", "begin.after", // head and turns/-0 are there, the file is not
	"open.after",                    // the file is there, its name is on no disk
	"commit.before", "commit.after", // committed and not written
	"write.before", "write.torn", "write.after", // written and not synced
	"sync.after", // synced and not acknowledged
	"acked",      // acknowledged, and its node is there
	"drop.before", "drop.after",
}

// random is the failpoint of an agent that others kill.
const random = "random"

// dying kills this process, when it gets to a step for the nth time.
type dying struct {
	step string
	stop bool // stop it instead, as SIGSTOP from outside does
	left atomic.Int64
}

func (d *dying) at(step string) {
	if step == d.step && d.left.Add(-1) == 0 {
		if d.stop {
			_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
			return
		}
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {} // it does not return from that
	}
}

// dieAt has the agent kill itself where its orders say.
func dieAt(opts *fleet.Options, o orders) {
	d := &dying{step: o.Die, stop: o.Stop}
	d.left.Store(int64(o.At))
	dial := opts.Dial
	opts.Dial = func(ctx context.Context) (fleet.Session, error) {
		sess, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return dyingSession{sess, d}, nil
	}
	fs := newFaultFS()
	fs.quiet = true
	fs.set(func(what deed) (int, error) {
		d.at(what.op + ".before")
		if what.op == "write" && d.step == "write.torn" && d.left.Add(-1) == 0 {
			d.left.Store(1)
			return len(what.bytes) / 2, io.ErrShortWrite
		}
		return 0, nil
	})
	fs.after = func(what deed) {
		if what.op == "datasync" {
			d.at("sync.after")
		}
		if what.failed {
			d.at("write.torn") // half of it is there
		}
		d.at(what.op + ".after")
	}
	opts.File.FS = fs
	opts.Source.(*flood).acked = func() { d.at("acked") }
}

type dyingSession struct {
	fleet.Session
	*dying
}

// Multi is the beginning, a commit, or the deletion of nodes.
func (s dyingSession) Multi(ctx context.Context, ops ...any) ([]zk.MultiResponse, error) {
	step := ""
	for _, op := range ops {
		switch op := op.(type) {
		case *zk.CreateRequest:
			if strings.Contains(op.Path, "/turns/") {
				step = "commit"
			}
			if strings.Contains(op.Path, "/turns/") && strings.HasSuffix(op.Path, "-0") {
				step = "begin"
			}
		case *zk.DeleteRequest:
			if strings.Contains(op.Path, "/turns/") {
				s.at("drop.before")
				defer s.at("drop.after")
			}
		}
	}
	s.at(step + ".before")
	results, err := s.Session.Multi(ctx, ops...)
	s.at(step + ".after")
	return results, err
}

// flood is a source without end: small turns, and now and then one of a thousand records.
// It says on standard output what is acknowledged.
type flood struct {
	name  string
	acked func()

	mu    sync.Mutex
	n     int // turns committed
	taken int // records
}

func newFlood(o orders) *flood { return &flood{name: o.Name + "-" + fmt.Sprint(os.Getpid())} }

func (f *flood) Wait(ctx context.Context) error { return ctx.Err() }

func (f *flood) Take(uint64) [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.taken = 1 + f.n%3
	if f.n%8 == 3 {
		f.taken = 1000
	}
	var records [][]byte
	for i := range f.taken {
		records = append(records, fmt.Appendf(nil, "%s turn %d record %d", f.name, f.n, i))
	}
	return records
}

func (f *flood) With() []any   { return nil }
func (f *flood) Gone(int) bool { return true }
func (f *flood) More() bool    { return true }
func (f *flood) Back()         {}

func (f *flood) Committed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
}

func (f *flood) Ack() {
	if f.acked != nil {
		f.acked()
	}
	fmt.Println("acknowledged")
}
