package fleet_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/zkdev"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// Connections are reset again and again, under requests of every kind, before they
// reach the server and after (row 5).
func TestRun_aStormOfResetsLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	var sources []*script
	var acks []string
	var group sync.WaitGroup
	for _, name := range []string{"one", "two", "three"} {
		source := &script{name: name, count: 40}
		proxy := zktest.NewProxy(t, strings.Split(s.zk, ",")[0])
		var packets, resets atomic.Int64
		proxy.OnRequest(func(packet []byte) bool {
			if zktest.Op(packet) == zktest.OpConnect {
				return true // or none would come to anything
			}
			switch packets.Add(1) % 23 {
			case 7:
				resets.Add(1)
				return false
			case 18:
				resets.Add(1)
				proxy.LoseAnswer()
			}
			return true
		})
		opts := s.calm(source)
		opts.Dial, opts.Name = s.dialer(proxy.Addr), name
		opts.Acks = ackLog(t, filepath.Join(s.dir, name+".acks"))
		acks, sources = append(acks, filepath.Join(s.dir, name+".acks")), append(sources, source)
		group.Go(func() {
			if err := fleet.New(opts).Run(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if n := resets.Load(); n < 10 {
				t.Errorf("%s: only %d resets", name, n)
			}
		})
	}
	group.Wait()
	s.verify(acks...)
	s.wantOnce(sources...)
}

// The line of the holder goes dead in both directions when it commits, and stays open.
// The others go on when its session has expired, and so does it when the line is back.
func TestRun_aHalfOpenLineDelaysTheOthersByASessionAtMost(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	proxy := zktest.NewProxy(t, strings.Split(s.zk, ",")[0])
	cut, other := &script{name: "cut off", count: 6}, &script{name: "other", count: 5}
	var commits atomic.Int64
	dead := make(chan struct{})
	proxy.OnRequest(func(packet []byte) bool {
		if zktest.IsMulti(packet) && bytes.Contains(packet, []byte("\n"+cut.record(2)+"\n")) && commits.Add(1) == 1 {
			proxy.HalfOpen(true)
			close(dead)
		}
		return true
	})
	opts := s.calm(cut)
	opts.Dial = s.dialer(proxy.Addr)
	agent := s.start(opts)
	<-dead
	began := time.Now()
	if err := s.run(s.calm(other)); err != nil {
		t.Fatal(err)
	}
	// A session of 2 s, which a server looks after every so often.
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the other had its turns only after %v", took)
	}
	s.until("it says why it does not commit", func() bool { return agent.says("not committing") })
	proxy.HalfOpen(false)
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
	s.verify()
	s.wantOnce(cut, other)
}

// own is a server of the test's own, on which sessions end when the test says so.
func own(t testing.TB) *zkdev.Server {
	t.Helper()
	return zkdev.RunT(t, func(c *zkdev.Config) { c.MaxSessionTimeout = time.Minute })
}

// slow is an agent whose line is so slow, in one commit, that its session is over before
// the commit has its effect or, after it, before the answer is there.
type slow struct {
	*outing
	source  *script
	arrived chan struct{} // the commit is at that point
	let     func()        // lets it go on
}

// startSlow holds the agent's nth commit at a point, and ends its session there: by the
// agent's own clock only, when the commit is before its effect, so that the server still
// takes it; at the server, when it is after it.
func (s *site) startSlow(server *zkdev.Server, at zkdev.Point, nth int) *slow {
	s.t.Helper()
	let := make(chan struct{})
	a := &slow{source: &script{name: "slow", count: 4}, arrived: make(chan struct{}), let: sync.OnceFunc(func() { close(let) })}
	s.t.Cleanup(a.let)
	first := make(chan fleet.Session, 1)
	opts := s.calm(a.source)
	opts.Dial = dialFor(server.Addr(), func(sess fleet.Session) {
		select {
		case first <- sess:
		default: // a later one
		}
	})
	commits := 0 // the agent is one, and commits one after the other
	var sess fleet.Session
	var mu sync.Mutex
	server.SetHook(func(point zkdev.Point, r zkdev.Request) zkdev.Action {
		if point != at || r.Op != zkdev.OpMulti || !isCommit(r.Paths) {
			return zkdev.Proceed
		}
		mu.Lock()
		if sess == nil {
			sess = <-first
		}
		if r.Session == sess.ID() {
			commits++
		}
		now := r.Session == sess.ID() && commits == nth
		mu.Unlock()
		switch {
		case !now:
			return zkdev.Proceed
		case at == zkdev.BeforeEffect:
			sess.Discard("the line is slow")
		default:
			server.ExpireSession(r.Session)
		}
		close(a.arrived)
		<-let
		return zkdev.Proceed
	})
	a.outing = s.start(opts)
	return a
}

// A commit that arrives when its session is over and its outcome settled never happens,
// and one that had happened before is acknowledged, once; whatever others do meanwhile.
func TestRun_aCommitThatOutlivesItsSessionIsSettled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at     zkdev.Point
		others int // their turns before the slow one goes on
	}{
		"before its effect, at once":       {zkdev.BeforeEffect, 0},
		"before its effect, others go on":  {zkdev.BeforeEffect, 3},
		"after its effect, at once":        {zkdev.AfterEffect, 0},
		"after its effect, others went on": {zkdev.AfterEffect, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := own(t)
			s := newSite(t, server.Addr())
			s.turns("before", 1)
			a := s.startSlow(server, c.at, 2)
			<-a.arrived
			if c.others > 0 {
				s.turns("others", c.others)
			}
			if c.at == zkdev.BeforeEffect {
				s.until("the outcome is settled", func() bool { return a.says("its records are for another turn") })
			}
			a.let()
			if err := a.wait(); err != nil {
				t.Fatal(err)
			}
			s.turns("after", 1)
			report := s.verify()
			if want := 6 + c.others; int(report.Turns) != want {
				t.Errorf("%d turns, want %d", report.Turns, want)
			}
			s.wantOnce(&script{name: "before", count: 1}, a.source, &script{name: "others", count: c.others}, &script{name: "after", count: 1})
			if turns, records := a.agent.Acknowledged(); turns != 4 || records != 4 {
				t.Errorf("%d turns and %d records were acknowledged, want 4", turns, records)
			}
			if settled := a.says("settled: our turn was committed"); settled != (c.at == zkdev.AfterEffect) {
				t.Errorf("settled as committed: %v", settled)
			}
		})
	}
}

// The answer to a commit is lost and the line with it; others go on before it is back.
func TestRun_aCommitInDoubtIsSettledThoughOthersWentOn(t *testing.T) {
	t.Parallel()
	for name, reaches := range map[string]bool{"it reached the server": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := own(t)
			s := newSite(t, server.Addr())
			proxy := zktest.NewProxy(t, server.Addr())
			source := &script{name: "in doubt", count: 4}
			gone := make(chan int64, 1)
			var sess atomic.Int64
			var commits atomic.Int64
			server.SetHook(func(at zkdev.Point, r zkdev.Request) zkdev.Action {
				want := map[bool]zkdev.Point{true: zkdev.AfterEffect, false: zkdev.BeforeEffect}[reaches]
				if at != want || !isCommit(r.Paths) || r.Session != sess.Load() || commits.Add(1) != 3 {
					return zkdev.Proceed
				}
				proxy.Refuse(true)
				gone <- r.Session
				return zkdev.CloseConn
			})
			opts := s.calm(source)
			opts.Dial = dialFor(proxy.Addr, func(got fleet.Session) { sess.CompareAndSwap(0, got.ID()) })
			agent := s.start(opts)
			server.ExpireSession(<-gone)
			s.turns("others", 3)
			proxy.Refuse(false)
			if err := agent.wait(); err != nil {
				t.Fatal(err)
			}
			s.verify()
			s.wantOnce(source, &script{name: "others", count: 3})
			if settled := agent.says("settled: our turn was committed"); settled != reaches {
				t.Errorf("settled as committed: %v", settled)
			}
		})
	}
}
