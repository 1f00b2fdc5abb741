package fleet_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/lifeline"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// elsewhere is the same fleet on another volume.
func (s *site) elsewhere() *site {
	dir := s.t.TempDir()
	return &site{t: s.t, zk: s.zk, root: s.root, dir: dir, path: filepath.Join(dir, "data.txt")}
}

// markers are the names that stand beside the file.
func (s *site) markers() (names []string) {
	s.t.Helper()
	entries, err := os.ReadDir(s.alive())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Two hosts each mounted their own: the second refuses, says so, and has written nothing
// but its marker, which it takes away.
func TestRun_anAgentOnAnotherVolumeRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	here := s.idle(newFaultFS())
	other := s.elsewhere()
	source := &script{name: "lost", count: 1}
	opts := other.options(source) // a session of two seconds, to be done with waiting early
	opts.Host = "other-host"
	agent := other.start(opts)
	s.until("it says what it waits for", func() bool { return agent.says("waiting for the marker of an agent") })
	err := agent.wait()
	wantRefused(t, "another volume", err)
	if !strings.Contains(err.Error(), "agent-1 on host host") || !strings.Contains(err.Error(), "on the same volume") {
		t.Errorf("it says: %v", err)
	}
	if files := other.everything(); len(files) > 0 || len(other.markers()) > 0 {
		t.Errorf("left on its volume: %v, %v", files, other.markers())
	}
	if source.Pending() != 1 {
		t.Error("it acknowledged something")
	}
	here.stop()
	if err := here.wait(); err != nil {
		t.Error(err)
	}
}

// Without a directory to make markers in, nobody can be seen to share the volume.
func TestRun_anAgentThatCannotMakeItsMarkerRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	if err := os.WriteFile(s.alive(), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	before := s.everything()
	wantRefused(t, "no marker", s.run(s.calm(&script{name: "x", count: 1})))
	s.wantUnchanged(before)
}

// A marker, or all of them, removed by somebody is made again by its owner, and who enters
// waits for that.
func TestRun_aMarkerThatIsRemovedIsMadeAgain(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(s *site) error{
		"one": func(s *site) error { return os.Remove(filepath.Join(s.alive(), s.markers()[0])) },
		"all": func(s *site) error { return os.RemoveAll(s.alive()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, zktest.Shared(t))
			agent := s.idle(newFaultFS())
			if err := remove(s); err != nil {
				t.Fatal(err)
			}
			s.turns("newcomer", 1)
			if !agent.says("our marker beside the file was removed") {
				t.Error("it does not say so")
			}
			var life string
			for _, a := range s.look(s.onlooker()).Agents {
				life = a.Life
			}
			stands, err := lifeline.Dir(s.alive()).Stands(life)
			if _, stop, err := lifeline.Dir(s.alive()).Watch(life); err != nil {
				t.Errorf("its death would not be noticed: %v", err)
			} else {
				stop()
			}
			if err != nil || !stands {
				t.Errorf("%s does not stand: %v", life, err)
			}
		})
	}
}

// absentee is a member whose marker is on no volume.
func (s *site) absentee(name string) *ghost {
	s.t.Helper()
	g := s.ghost(name)
	entry := []byte(`{"agent":"` + name + `","host":"haunted","life":"` + g.run.String() + `","run":"` + g.run.String() + `"}`)
	if _, err := g.sess.Create(s.t.Context(), s.root.Agents()+"/"+name, entry, zk.FlagEphemeral); err != nil {
		s.t.Fatal(err)
	}
	return g
}

// While it waits for the marker of another, an agent does not know that its volume is the
// fleet's: it writes nothing that was left behind into what may be a copy of the file.
func TestRun_whoDoesNotYetShareTheVolumeSettlesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, own(t).Addr())
	s.turns("before", 2)
	s.absentee("far")
	s.ghost("dead").commit("left behind")
	other := s.elsewhere()
	other.put(s.read())
	before := other.everything()
	opts := other.options(&script{name: "mine", count: 1})
	opts.Dial = func(ctx context.Context) (fleet.Session, error) {
		// It waits for twice as long: what was left behind is old enough by then.
		return session.Dial(ctx, session.Options{Servers: []string{s.zk}, Timeout: 4 * time.Second, ConnectTimeout: 5 * time.Second})
	}
	err := other.start(opts).wait()
	wantRefused(t, "another volume", err)
	if err == nil || !strings.Contains(err.Error(), "does not use the volume") {
		t.Errorf("it says: %v", err)
	}
	other.wantUnchanged(before)
}

// Each marker that is missing has the whole time to come.
func TestRun_aMarkerIsNotMissingForAsLongAsAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t, own(t).Addr())
	first := s.absentee("first")
	agent := s.start(s.options(&script{name: "mine", count: 1})) // which waits for 4 s
	waiting := func() []observer.LoggedEntry {
		return agent.said.FilterMessageSnippet("waiting for the marker of an agent").All()
	}
	since := func() time.Duration { return time.Since(waiting()[0].Time) }
	s.until("it waits for the first", func() bool { return len(waiting()) == 1 })
	s.until("it has waited for a while", func() bool { return since() > 2500*time.Millisecond })
	second := s.absentee("second")
	first.sess.Close()
	s.until("it waits for the second, and longer than for one", func() bool { return len(waiting()) == 2 && since() > 4600*time.Millisecond })
	second.sess.Close()
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
}

// Who left without a good-bye is a member until its session ends, and its marker is gone:
// who enters waits, and does not refuse.
func TestRun_aMemberThatHasDiedIsNotMissing(t *testing.T) {
	t.Parallel()
	server := own(t)
	s := newSite(t, server.Addr())
	dead := s.absentee("dead")
	source := &script{name: "mine", count: 1}
	agent := s.start(s.calm(source))
	s.until("it waits", func() bool { return agent.says("waiting for the marker of an agent") })
	server.ExpireSession(dead.sess.ID())
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
	s.wantOnce(source)
}

// Bytes of somebody else behind head are never written over: refused by newcomers and by
// who runs (row 14).
func TestRun_foreignBytesBehindHeadAreRefusedAndStay(t *testing.T) {
	t.Parallel()
	for name, when := range map[string]int{"before it enters": 0, "while it runs": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begun(t)
			source := &script{name: "mine", count: 4}
			var before map[string]string
			append := func(turn int) {
				if turn != when {
					return
				}
				s.put([]byte(string(s.read()) + "oops\n"))
				before = s.everything()
			}
			if when == 0 {
				append(0)
			} else {
				source.before = append
			}
			err := s.run(s.calm(source))
			wantRefused(t, name, err)
			if err == nil || !strings.Contains(err.Error(), "something else writes to the file") {
				t.Errorf("it says: %v", err)
			}
			s.wantUnchanged(before)
			if source.Pending() != 4-when {
				t.Errorf("%d are pending", source.Pending())
			}
		})
	}
}

// Zeros where a turn belongs are a hole after a power loss: they are written over.
func TestRun_aHoleIsFilled(t *testing.T) {
	t.Parallel()
	s := begun(t)
	dead := s.ghost("dead")
	one, two := dead.commit("left 0"), dead.commit("left 1")
	whole := append([]byte(string(s.read())), make([]byte, len(one.Bytes))...)
	s.put(append(whole, two.Bytes[:10]...))
	dead.sess.Close()
	source := &script{name: "mine", count: 1}
	agent := s.start(s.calm(source))
	err := agent.wait()
	if err != nil {
		t.Fatal(err)
	}
	s.settled()
	s.verify()
	s.wantOnce(&script{name: "before", count: 1}, &script{name: "left", count: 2}, source)
}

// settled has an idle agent in the fleet until no turn has a node.
func (s *site) settled() {
	s.t.Helper()
	input, keep := io.Pipe()
	defer keep.Close()
	ctx, stop := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	agent := fleet.New(s.calm(fleet.NewLines(input, 10, 1<<16)))
	go func() { ended <- agent.Run(ctx) }()
	sess := s.onlooker()
	s.within(20*time.Second, "no turn has a node", func() bool { return len(s.nodes(sess)) == 0 })
	stop()
	if err := <-ended; err != nil {
		s.t.Error(err)
	}
}
