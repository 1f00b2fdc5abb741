package fleet_test

import (
	"errors"
	"os"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/zktest"
)

// Whatever is done to the paths while an agent runs, it writes no further byte, and
// goes on when things are as they were.
func TestAPathThatChangesUnderARunningAgentIsRefused(t *testing.T) {
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
	copied := func(t testing.TB, from, to string) {
		text, err := os.ReadFile(from)
		must(t, err, os.WriteFile(to, text, 0o644))
	}
	for name, d := range map[string]damage{
		"moved away": {away, back},
		"replaced":   {func(t testing.TB, p string) { away(t, p); copied(t, p+".old", p) }, back},
		"renamed over": {func(t testing.TB, p string) {
			must(t, os.Link(p, p+".old"))
			copied(t, p, p+".new")
			must(t, os.Rename(p+".new", p))
		}, back},
		"a symbolic link": {func(t testing.TB, p string) { away(t, p); must(t, os.Symlink(p+".old", p)) }, back},
		"a hard link":     {func(t testing.TB, p string) { must(t, os.Link(p, p+".also")) }, func(t testing.TB, p string) { must(t, os.Remove(p+".also")) }},
		"a directory": {func(t testing.TB, p string) { away(t, p); must(t, os.Mkdir(p, 0o755)) }, func(t testing.TB, p string) {
			must(t, os.Remove(p))
			back(t, p)
		}},
	} {
		for _, suffix := range []string{"", ".fence"} {
			t.Run(map[string]string{"": "the file is ", ".fence": "the fence is "}[suffix]+name, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, zktest.Shared(t))
				source := &script{name: "mine", count: 6}
				var damaged map[string]string
				source.before = func(turn int) {
					if turn == 3 {
						d.do(t, s.path+suffix)
						damaged = s.everything()
					}
				}
				wantRefused(t, name, s.run(s.calm(source)))
				s.wantUnchanged(damaged)
				if source.Pending() != 3 {
					t.Errorf("%d records are not acknowledged, want 3", source.Pending())
				}
				d.undo(t, s.path+suffix)
				if err := s.run(s.calm(source)); err != nil {
					t.Fatal(err)
				}
				s.verify()
				s.wantOnce(source)
			})
		}
	}
}
