package fleet_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// A run has left a turn pending, and ZooKeeper and the file are both gone: nothing can be
// said of the turn, and the next run is refused.
func TestRun_aPendingTurnOfAFleetThatWasWipedIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	s.turns("before", 1)
	sess, fs := s.onlooker(), newFaultFS()
	acks := filepath.Join(s.dir, "acks")
	fs.fail("write", syscall.ENOSPC)
	source := &script{name: "mine", count: 1}
	opts := s.on(fs, source)
	opts.Acks = ackLog(t, acks)
	agent := s.start(opts)
	s.until("it is committed", func() bool { n, _ := source.at(); return n == 1 })
	agent.stop()
	if err := agent.wait(); !errors.Is(err, fleet.ErrUnacknowledged) {
		t.Fatal(err)
	}
	opts.Acks.Close()

	i := s.parsedHead(sess).Incarnation
	nodes := []string{s.root.Head()}
	for _, n := range s.nodes(sess) {
		nodes = append(nodes, s.root.Turn(i, n))
	}
	if err := errors.Join(filelock.DropTurns(t.Context(), sess, nodes), os.Remove(s.path)); err != nil {
		t.Fatal(err)
	}
	opts = s.calm(&script{name: "next", count: 1})
	opts.Acks = ackLog(t, acks)
	wantRefused(t, "a fleet that was wiped", s.run(opts))
	if _, err := os.Lstat(s.path); !errors.Is(err, os.ErrNotExist) {
		t.Error("a new file was begun")
	}
}
