package fleet_test

import (
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/lifeline"
)

// faultLives is lifelines beside a file, with a fault in front of each look at a marker.
type faultLives struct {
	lifeline.Dir
	mu    sync.Mutex
	fault func() error // may block; nil: none
}

func (l *faultLives) set(fault func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = fault
}

func (l *faultLives) Stands(life string) (bool, error) {
	l.mu.Lock()
	fault := l.fault
	l.mu.Unlock()
	if fault != nil {
		if err := fault(); err != nil {
			return false, err
		}
	}
	return l.Dir.Stands(life)
}

// An agent's session ends while its volume hangs or fails: it is in the fleet again at once,
// the fleet is told what holds it up, and it goes on by itself.
func TestRun_anAgentThatComesBackWhileItsVolumeFailsSaysSo(t *testing.T) {
	t.Parallel()
	for name, ill := range map[string]struct {
		op   string // on the file; empty: a look at a marker
		err  error  // nil: it hangs
		told string
	}{
		"the file hangs":          {"lstat", nil, "does not return"},
		"the file's sync hangs":   {"datasync", nil, "does not return"},
		"the file fails":          {"lstat", syscall.EIO, "input/output error"},
		"a look at markers hangs": {"", nil, "does not return"},
		"a look at markers fails": {"", syscall.EIO, "input/output error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := own(t)
			s := newSite(t, server.Addr())
			s.turns("before", 1)
			onlooker := s.onlooker()
			fs, lives := newFaultFS(), &faultLives{Dir: lifeline.Dir(s.alive())}
			source := &script{name: "mine", count: 6, more: true, gate: make(chan struct{}), gated: 3}
			opts := s.on(fs, source)
			opts.Name, opts.Lives, opts.Acks = "ill", lives, ackLog(t, filepath.Join(s.dir, "acks"))
			var victim atomic.Int64
			opts.Dial = dialFor(s.zk, func(got fleet.Session) { victim.Store(got.ID()) })
			var mend func()
			fall := func() {
				switch free := make(chan struct{}); {
				case ill.op == "" && ill.err == nil:
					lives.set(func() error { <-free; return nil })
					mend = sync.OnceFunc(func() { lives.set(nil); close(free) })
				case ill.op == "":
					lives.set(func() error { return ill.err })
					mend = func() { lives.set(nil) }
				case ill.err == nil:
					mend = fs.hang(ill.op)
				default:
					fs.fail(ill.op, ill.err)
					mend = fs.heal
				}
			}
			source.during = func(n int) {
				if n == 2 && ill.op == "datasync" { // else there is nothing to sync
					fall()
				}
			}
			agent := s.start(opts)
			s.until("its turns are committed", func() bool { n, acked := source.at(); return n == 3 && (acked == 3 || ill.op == "datasync") })
			if ill.op != "datasync" {
				fall()
			}
			t.Cleanup(func() { mend() })
			before := victim.Load()
			if !server.ExpireSession(before) {
				t.Fatal("no such session")
			}
			s.until("it is in the fleet again, and held up", func() bool {
				return victim.Load() != before && strings.Contains(s.held(onlooker, "ill"), ill.told)
			})
			mend()
			close(source.gate)
			if err := agent.wait(); err != nil {
				t.Error(err)
			}
			s.verify(filepath.Join(s.dir, "acks"))
			s.wantOnce(&script{name: "before", count: 1}, source)
		})
	}
}
