package fleet_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// Where the file system takes no FIFOs, a dead agent's marker is swept by who enters, and
// that of an agent that is in the fleet stays, however old it is.
func TestRun_whoEntersSweepsThePlainMarkersOfTheDead(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	source := &script{name: "lives", count: 1, gate: make(chan struct{})}
	agent := s.start(s.calm(source))
	s.until("it is in the fleet", func() bool { return agent.says("in the fleet") })
	entries, err := os.ReadDir(s.alive())
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d markers, %v", len(entries), err)
	}
	live, dead := filepath.Join(s.alive(), entries[0].Name()), filepath.Join(s.alive(), "0d9b6d5a-0000-4000-8000-00000000dead")
	old := time.Now().Add(-time.Hour)
	for _, marker := range []string{live, dead} {
		made := filepath.Join(s.dir, "made") // and moved: the live one's must not be missed
		if err := os.WriteFile(made, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(made, old, old); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(made, marker); err != nil {
			t.Fatal(err)
		}
	}
	s.turns("enters", 1)
	if _, err := os.Lstat(dead); !os.IsNotExist(err) {
		t.Errorf("the dead one's marker: %v", err)
	}
	if info, err := os.Lstat(live); err != nil || !info.ModTime().Equal(old) {
		t.Errorf("the live one's marker is not the one that was there: %v", err)
	}
	close(source.gate)
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
}
