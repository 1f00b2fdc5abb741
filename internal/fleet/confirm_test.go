package fleet_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/zkdev"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// hung is an agent whose only turn is committed, and whose volume hangs.
type hung struct {
	*site
	proxy  *zktest.Proxy
	mine   *wary
	let    func() // has the volume go on
	goBack func() // has ZooKeeper forget the turn
}

// wary counts how often its agent asked whether it is connected, and was not.
type wary struct {
	fleet.Session
	told atomic.Int32
}

func (w *wary) Connected() bool {
	connected := w.Session.Connected()
	if !connected {
		w.told.Add(1)
	}
	return connected
}

// whileItHangs has something befall an agent when its turn is to be written, and when it is to
// be acknowledged: it must be refused, and neither happen.
func whileItHangs(t *testing.T, befall func(*hung)) {
	for op, what := range map[string]string{"stat": "before it is written", "datasync": "before it is acknowledged"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			server := own(t)
			s := newSite(t, server.Addr())
			s.turns("before", 2)
			sess := s.onlooker()
			head := s.getHead(sess)
			h := &hung{site: s, proxy: zktest.NewProxy(t, server.Addr()), goBack: func() { s.setHead(sess, head) }}
			fs := newFaultFS()
			source := &script{name: "mine", count: 1}
			h.let = func() {}
			source.during = func(int) { h.let = fs.hang(op) }
			opts := s.on(fs, source)
			dial := dialFor(h.proxy.Addr, func(fleet.Session) {})
			opts.Dial = func(ctx context.Context) (fleet.Session, error) {
				mine, err := dial(ctx)
				if err != nil {
					return nil, err
				}
				h.mine = &wary{Session: mine}
				return h.mine, nil
			}
			agent := s.start(opts)
			s.until("the turn is committed, and the volume hangs", func() bool { n, _ := source.at(); return n == 1 && fs.stuck.Load() > 0 })
			file := s.read()
			befall(h)
			wantRefused(t, what, agent.wait())
			if _, acked := source.at(); acked != 0 {
				t.Error("it is acknowledged")
			}
			if op == "stat" && string(s.read()) != string(file) {
				t.Error("it is written")
			}
		})
	}
}

// The connection that answered a commit is gone when the turn is to be written, or
// acknowledged, and ZooKeeper has gone back meanwhile: it is asked, and refused (row 9).
func TestRun_aCommitIsConfirmedAfterItsConnectionBroke(t *testing.T) {
	t.Parallel()
	whileItHangs(t, func(h *hung) {
		h.goBack()
		connection := h.mine.Connections()
		h.proxy.Cut()
		h.until("it has another connection", func() bool { return h.mine.Connections() > connection })
		h.let()
	})
}

// While there is no connection nothing is written, nor acknowledged: ZooKeeper may go back
// meanwhile.
func TestRun_withoutAConnectionNothingIsWritten(t *testing.T) {
	t.Parallel()
	whileItHangs(t, func(h *hung) {
		h.proxy.Refuse(true)
		h.until("it has no connection", func() bool { return !h.mine.Session.Connected() })
		h.goBack()
		told := h.mine.told.Load()
		h.let()
		h.until("it has seen that", func() bool { return h.mine.told.Load() > told })
		h.proxy.Refuse(false)
	})
}

// A connection that broke and nothing else: the turn is confirmed, written and acknowledged,
// and ZooKeeper was asked for it.
func TestRun_aConnectionThatBrokeCostsNoTurn(t *testing.T) {
	t.Parallel()
	server := own(t)
	s := newSite(t, server.Addr())
	s.turns("before", 1)
	fs := newFaultFS()
	source := &script{name: "mine", count: 30, more: true}
	var dropped atomic.Int64
	server.SetHook(func(at zkdev.Point, r zkdev.Request) zkdev.Action {
		if at == zkdev.AfterReply && isCommit(r.Paths) && dropped.Add(1)%3 == 0 {
			return zkdev.CloseConn
		}
		return zkdev.Proceed
	})
	if err := s.run(s.on(fs, source)); err != nil {
		t.Fatal(err)
	}
	server.SetHook(nil)
	s.verify()
	s.wantOnce(&script{name: "before", count: 1}, source)
	if got := turnsIn(fs.log("write")); !slices.IsSorted(got) {
		t.Error(fmt.Sprint("the turns were written in the order ", got))
	}
}
