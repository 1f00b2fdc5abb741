package fleet_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// Told to stop with turns that are not acknowledged, an agent ends in time and with an
// error that counts them, and notes each in its log; the next run settles them before it
// reads its input.
func TestRun_toldToStopWithTurnsUnderWay(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]bool{"the volume fails": true, "the volume hangs": false} {
		for then, others := range map[string]bool{"nobody else came": false, "others settled them": true} {
			t.Run(name+", "+then, func(t *testing.T) {
				t.Parallel()
				s := begun(t)
				fs, acks := newFaultFS(), filepath.Join(s.dir, "acks")
				three := make(chan struct{})
				fs.set(func(d deed) (int, error) {
					if d.op != "write" {
						return 0, nil
					}
					<-three
					return 0, syscall.ENOSPC
				})
				source := &script{name: "mine", count: 3, more: true}
				opts := s.on(fs, source)
				opts.Acks = ackLog(t, acks)
				agent := s.start(opts)
				s.until("three turns are committed", func() bool { n, _ := source.at(); return n == 3 })
				if fails {
					close(three)
				} else {
					defer close(three)
				}
				began := time.Now()
				agent.stop()
				err := agent.wait()
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("it took %v to stop", took)
				}
				if !errors.Is(err, fleet.ErrUnacknowledged) || !strings.Contains(err.Error(), "3 records in 3 turns") {
					t.Errorf("it ended with %v", err)
				}
				opts.Acks.Close()
				if log := s.everything()[acks]; strings.Count(log, "\n#pending ") != 3 || strings.Contains(log, "\n2 1 ") {
					t.Errorf("the log says %q", log)
				}
				if report := s.judge(acks); !report.OK() || report.Acknowledged != 0 || report.Unwritten != 3 {
					t.Errorf("%+v", report)
				}
				if others {
					s.settled()
				}

				next := &script{name: "next", count: 1}
				next.before = func(int) {
					if report := s.judge(acks); report.Acknowledged != 3 {
						t.Errorf("%d of 3 are acknowledged when the next run reads its input", report.Acknowledged)
					}
				}
				opts = s.calm(next)
				opts.Acks = ackLog(t, acks)
				if err := s.run(opts); err != nil {
					t.Fatal(err)
				}
				opts.Acks.Close()
				s.settled()
				if report := s.verify(acks); report.Acknowledged != 4 {
					t.Errorf("%d are acknowledged", report.Acknowledged)
				}
				s.wantOnce(&script{name: "before", count: 1}, source, next)

				// What was settled is not settled again.
				opts = s.calm(&script{name: "last", count: 1})
				opts.Acks = ackLog(t, acks)
				again := s.start(opts)
				if err := again.wait(); err != nil || again.says("settled: a turn that the last run left") {
					t.Errorf("settled once more: %v", err)
				}
			})
		}
	}
}

// Told to stop while ZooKeeper does not answer a commit: what is not known is told.
func TestRun_toldToStopInDoubt(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	proxy := zktest.NewProxy(t, strings.Split(s.zk, ",")[0])
	source := &script{name: "mine", count: 2}
	cut := make(chan struct{})
	proxy.OnRequest(func(packet []byte) bool {
		if zktest.IsMulti(packet) && strings.Contains(string(packet), "\n"+source.record(1)+"\n") {
			select {
			case <-cut:
			default:
				proxy.Silence(true)
				close(cut)
			}
		}
		return true
	})
	opts := s.calm(source)
	opts.Dial = dialFor(proxy.Addr, func(fleet.Session) {})
	agent := s.start(opts)
	<-cut
	agent.stop()
	if err := agent.wait(); !errors.Is(err, fleet.ErrUnsettled) {
		t.Errorf("it ended with %v", err)
	}
}

// An agent that is told to stop ends well when its volume is: all is acknowledged.
func TestRun_toldToStopFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	fs := newFaultFS()
	let := fs.hang("datasync")
	defer let()
	source := &script{name: "mine", count: 100, more: true}
	ctx, stop := context.WithCancel(t.Context())
	source.during = func(n int) {
		if n == 4 {
			stop()
			let()
		}
	}
	s.patient = true
	if err := s.agent(s.on(fs, source)).Run(ctx); err != nil {
		t.Fatal(err)
	}
	if n, acked := source.at(); n != acked || n < 5 {
		t.Errorf("%d committed, %d acknowledged", n, acked)
	}
	s.verify()
}
