package fleet_test

import (
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// Without a boot id all works, and deaths are noticed by the session's end. An agent says so,
// once.
func TestRun_saysOnceThatTheBootIDCannotBeHad(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]int{"": 1, "boot": 0} {
		s := newSite(t, zktest.Shared(t))
		core, said := observer.New(zap.InfoLevel)
		opts := s.calm(&script{name: "mine", count: 2})
		opts.BootID, opts.Log = id, zap.New(core)
		if err := fleet.New(opts).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := said.FilterMessageSnippet("boot id").Len(); n != want {
			t.Errorf("boot id %q: said %d times", id, n)
		}
	}
}
