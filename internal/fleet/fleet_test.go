package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/intake"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestRun_agentsWriteTheirInputWholeAndInOrder(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	const each = 3000
	var group sync.WaitGroup
	for _, name := range []string{"one", "two", "three"} {
		opts := s.calm(fleet.NewLines(strings.NewReader(numbered(name, each)), 50, 1<<16))
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
	if nodes := s.nodes(s.onlooker()); len(nodes) != 0 {
		t.Errorf("turns %d have a node yet", nodes)
	}
}

func TestRun_turnNumbersGoOnAfterARestart(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	for range 2 {
		ticker := &fleet.Ticker{Agent: func() string { return "me" }, Lines: 2, Turns: 3}
		if err := fleet.New(s.calm(ticker)).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if report := s.verify(); report.Last != 6 || report.Turns != 6 {
		t.Errorf("%d turns, the last %d, want 6", report.Turns, report.Last)
	}
}

func TestRun_agentsTakeTheLowestFreeNames(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 4 {
		called := make(chan string, 9)
		var name string
		opts := s.calm(&fleet.Ticker{Agent: func() string {
			select {
			case name = <-called:
			default:
			}
			return name
		}, Lines: 1})
		opts.Named = func(name string) { called <- name }
		group.Go(func() {
			if err := fleet.New(opts).Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	s.until("all four wrote", func() bool { return len(distinct(s.tryRecords())) == 4 })
	stop()
	group.Wait()
	names := distinct(s.records())
	for i := range 4 {
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

// The connection is cut again and again around commits, some before they reach the
// server, some after (row 6).
func TestRun_aCommitWhoseAnswerWasLostIsNeitherLostNorDoubled(t *testing.T) {
	t.Parallel()
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
	opts := s.calm(fleet.NewLines(strings.NewReader(numbered("r", records)), 5, 1<<16))
	opts.Dial = s.dialer(proxy.Addr)
	opts.Acks = ackLog(t, filepath.Join(s.dir, "acks"))
	if err := fleet.New(opts).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if lostBefore < 5 || lostAfter < 5 {
		t.Errorf("only %d commits and %d answers were lost", lostBefore, lostAfter)
	}
	if report := s.verify(filepath.Join(s.dir, "acks")); report.Acknowledged != records {
		t.Errorf("%d records were acknowledged", report.Acknowledged)
	}
	if got := s.records(); len(got) != records || strings.Join(got, "\n")+"\n" != numbered("r", records) {
		t.Errorf("%d records in the file, want %d, each once, in order", len(got), records)
	}
}

func TestRun_aSessionThatExpiresIsAnEverydayEvent(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	proxy := zktest.NewProxy(t, strings.Split(s.zk, ",")[0])
	opts := s.options(&fleet.Ticker{Agent: func() string { return "x" }, Lines: 1})
	opts.Dial = s.dialer(proxy.Addr)
	agent := s.start(opts)
	s.until("it wrote", func() bool { return len(s.tryRecords()) > 5 })
	proxy.Refuse(true)
	watcher := s.onlooker()
	s.until("its session is gone", func() bool {
		names, err := watcher.Children(t.Context(), s.root.Agents())
		return err == nil && len(names) == 0
	})
	before := len(s.records())
	proxy.Refuse(false)
	s.until("it writes again", func() bool { return len(s.records()) > before+5 })
	agent.stop()
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
	s.verify()
}

func TestRun_aBadRecordIsRefusedByNameAfterThoseBeforeItWereWritten(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	source := fleet.NewLines(strings.NewReader("fine\nalso fine\nbell\a\nnever read\n"), 10, 1<<16)
	err := fleet.New(s.calm(source)).Run(t.Context())
	var bad *intake.RecordError
	if !errors.As(err, &bad) || bad.Line != 3 || !strings.Contains(err.Error(), "U+0007") {
		t.Errorf("got %v, want line 3 refused for U+0007", err)
	}
	if got := s.records(); strings.Join(got, ",") != "fine,also fine" {
		t.Errorf("the file holds %q", got)
	}
}

// TestRun_aSourceThatHasNothingAfterAll: somebody else took what it had. A turn of nothing is no
// turn, and the verifier would call it damage.
func TestRun_aSourceThatHasNothingAfterAll(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	source := &absent{Lines: fleet.NewLines(strings.NewReader(numbered("r", 3)), 1, 1<<16)}
	if err := fleet.New(s.calm(source)).Run(t.Context()); err != nil {
		t.Error(err)
	}
	if got := strings.Join(s.records(), ","); got != "r 1,r 2,r 3" || source.asked < 4 {
		t.Errorf("the file holds %q, Take was asked %d times", got, source.asked)
	}
	s.verify()
}

// absent is lines of which every second Take gives none.
type absent struct {
	*fleet.Lines
	asked int
}

func (a *absent) Take(turn uint64) [][]byte {
	if a.asked++; a.asked%2 == 1 {
		return nil
	}
	return a.Lines.Take(turn)
}
