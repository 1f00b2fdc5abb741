package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/audit"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// auditors are processes that stand for auditor of one fleet.
type auditors struct {
	t     *testing.T
	sess  *session.Session
	fleet string
	args  []string
	n     int
	all   map[string]*exec.Cmd
}

func newAuditors(t *testing.T) *auditors {
	t.Helper()
	addr := zktest.Start(t).Addr
	sess, err := session.Dial(t.Context(), session.Options{Servers: []string{addr}, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sess.Close)
	p := &auditors{t: t, sess: sess, fleet: "failover", all: map[string]*exec.Cmd{}}
	p.args = []string{"--zookeeper", addr, "--fleet", p.fleet, "--data", filepath.Join(t.TempDir(), "data.txt")}
	t.Cleanup(func() {
		for _, cmd := range p.all {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	p.agent("run", "--turns", "3", "--pace", "0")
	return p
}

// agent runs a command to its end.
func (p *auditors) agent(args ...string) {
	p.t.Helper()
	if out, err := exec.Command("agent", append(args, p.args...)...).CombinedOutput(); err != nil {
		p.t.Fatalf("agent %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// start begins another auditor, and returns when it stands.
func (p *auditors) start() {
	p.t.Helper()
	p.n++
	name := fmt.Sprintf("auditor-%d", p.n)
	cmd := exec.Command("agent", append([]string{"audit", "--name", name, "--session-timeout", "6s", "--log-level", "error"}, p.args...)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.all[name] = cmd
	p.until(name+" stands", func() bool {
		entries, err := queue.Look(p.t.Context(), p.sess, "/turnstile/"+p.fleet+"/elections/"+audit.Election)
		return err == nil && slices.ContainsFunc(entries, func(e queue.Entry) bool { return e.Agent == name })
	})
}

func (p *auditors) until(what string, holds func() bool) {
	p.t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("never: %s", what)
		}
	}
}

func (p *auditors) verdict() *audit.Verdict {
	p.t.Helper()
	state, err := audit.Look(context.Background(), p.sess, "/turnstile/"+p.fleet)
	if err != nil {
		p.t.Fatal(err)
	}
	if state == nil || state.Verdict == nil {
		return &audit.Verdict{}
	}
	return state.Verdict
}

// fail ends the auditor and tells how long it took until another had taken its place, and
// until that had judged the file.
func (p *auditors) fail(how syscall.Signal) (elected, judged time.Duration) {
	p.t.Helper()
	p.until("fine", func() bool { return p.verdict().Verdict == audit.Fine })
	old := p.verdict()
	cmd := p.all[old.Auditor]
	begun := time.Now()
	if err := cmd.Process.Signal(how); err != nil {
		p.t.Fatal(err)
	}
	p.until("another is the auditor", func() bool { return p.verdict().Token > old.Token })
	elected = time.Since(begun)
	p.until("fine", func() bool { v := p.verdict(); return v.Token > old.Token && v.Verdict == audit.Fine })
	judged = time.Since(begun)
	_ = cmd.Wait()
	delete(p.all, old.Auditor)
	return elected, judged
}

// TestAnAuditorThatDiesIsSucceeded ends real processes, and prints how long the fleet was
// without an auditor. The fastest shows that nothing is waited for; a busy machine has a bound
// of its own for the median, far below the session's timeout.
func TestAnAuditorThatDiesIsSucceeded(t *testing.T) {
	for _, c := range []struct {
		name          string
		how           syscall.Signal
		fastest, most time.Duration
	}{{"SIGTERM", syscall.SIGTERM, 100 * time.Millisecond, time.Second}, {"SIGKILL", syscall.SIGKILL, time.Second, 3 * time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			p := newAuditors(t)
			p.start()
			p.start()
			var elected, judged []time.Duration
			for range 7 {
				p.start()
				e, j := p.fail(c.how)
				elected, judged = append(elected, e), append(judged, j)
			}
			slices.Sort(elected)
			slices.Sort(judged)
			t.Logf("%s: another auditor after %v (median of %d; slowest %v), its verdict after %v (slowest %v)", c.name,
				elected[3], len(elected), elected[6], judged[3], judged[6])
			if elected[0] > c.fastest || elected[3] > c.most {
				t.Errorf("the fastest after %v, want %v; the median after %v, want %v", elected[0], c.fastest, elected[3], c.most)
			}
		})
	}
}
