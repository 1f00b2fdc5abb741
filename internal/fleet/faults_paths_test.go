package fleet_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// Whatever is done to the path while an agent runs, nothing is acknowledged that is not in
// the file, and all goes on when things are as they were (row 15).
func TestRun_aPathThatChangesUnderARunningAgentIsRefused(t *testing.T) {
	t.Parallel()
	must := func(t testing.TB, errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	type damage struct {
		do, undo func(t testing.TB, path string)
	}
	back := func(t testing.TB, p string) { must(t, os.Rename(p+".old", p)) }
	away := func(t testing.TB, p string) { must(t, os.Rename(p, p+".old")) }
	for name, d := range map[string]damage{
		"moved away":          {away, back},
		"replaced by another": {func(t testing.TB, p string) { away(t, p); must(t, os.WriteFile(p, []byte("mine\n"), 0o644)) }, back},
		"replaced by an older copy": {func(t testing.TB, p string) {
			text, err := os.ReadFile(p)
			away(t, p)
			parts := frames(text)
			must(t, err, os.WriteFile(p, bytes.Join(parts[:len(parts)-1], nil), 0o644))
		}, back},
		"a symbolic link": {func(t testing.TB, p string) { away(t, p); must(t, os.Symlink(p+".old", p)) }, back},
		"a hard link":     {func(t testing.TB, p string) { must(t, os.Link(p, p+".also")) }, func(t testing.TB, p string) { must(t, os.Remove(p+".also")) }},
		"a directory": {func(t testing.TB, p string) { away(t, p); must(t, os.Mkdir(p, 0o755)) }, func(t testing.TB, p string) {
			must(t, os.Remove(p))
			back(t, p)
		}},
	} {
		t.Run("the file is "+name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, zktest.Shared(t))
			source := &script{name: "mine", count: 6}
			opts := s.calm(source)
			opts.Acks = ackLog(t, s.dir+"/acks")
			var damaged map[string]string
			source.before = func(turn int) {
				if turn == 3 {
					s.until("no node is left", func() bool { return len(s.nodes(s.onlooker())) == 0 })
					d.do(t, s.path)
					damaged = s.everything()
				}
			}
			err := s.run(opts)
			wantRefused(t, name, err)
			acks := damaged[s.dir+"/acks"]
			delete(damaged, s.dir+"/acks")
			now := s.everything()
			for path, text := range damaged {
				// The turn under way may have reached the file by its old name.
				if got := now[path]; got != text && !(path == s.path+".old" || path == s.path+".also" || name == "a hard link") {
					t.Errorf("%s was changed: %q", path, got)
				}
			}
			_, acked := source.at()
			if acked != 3 || !strings.HasPrefix(now[s.dir+"/acks"], acks) {
				t.Errorf("%d records were acknowledged, want 3", acked)
			}
			d.undo(t, s.path)
			opts.Acks.Close()
			opts = s.calm(source.rest())
			opts.Acks = ackLog(t, s.dir+"/acks")
			if err := s.run(opts); err != nil {
				t.Fatal(err)
			}
			if report := s.verify(s.dir + "/acks"); report.Acknowledged != 6 {
				t.Errorf("%d records were acknowledged in the end", report.Acknowledged)
			}
			s.wantOnce(source)
		})
	}
}

// A copy that has all that is committed is as good as the file: it is gone on with.
func TestRun_aCompleteCopyInItsPlaceIsGoneOnWith(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	source := &script{name: "mine", count: 6}
	source.before = func(turn int) {
		if turn == 3 {
			text := s.read()
			if err := errors.Join(os.WriteFile(s.path+".new", text, 0o644), os.Rename(s.path, s.path+".old"), os.Rename(s.path+".new", s.path)); err != nil {
				t.Error(err)
			}
		}
	}
	if err := s.run(s.calm(source)); err != nil {
		t.Fatal(err)
	}
	s.verify()
	s.wantOnce(source)
}

// A file that is away for a moment is waited for: caches, and an adoption, make it look so.
func TestRun_aFileThatIsAwayForAMomentIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	source := &script{name: "mine", count: 4}
	away := make(chan struct{})
	source.before = func(turn int) {
		if turn == 2 {
			if err := os.Rename(s.path, s.path+".old"); err != nil {
				t.Error(err)
			}
			close(away)
		}
	}
	fs := newFaultFS()
	agent := s.start(s.on(fs, source))
	<-away
	s.until("it says that it looks again", func() bool { return agent.says("looking again") || agent.says("looking at the file again") })
	looked := fs.begun("lstat")
	s.until("it has looked again and again", func() bool { return fs.begun("lstat") > looked+3 })
	if err := os.Rename(s.path+".old", s.path); err != nil {
		t.Fatal(err)
	}
	if err := agent.wait(); err != nil {
		t.Fatal(err)
	}
	s.verify()
	s.wantOnce(source)
}
