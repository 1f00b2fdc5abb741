package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestMain(m *testing.M) {
	// The race detector has every command that we start wait a second before it ends.
	if _, set := os.LookupEnv("GORACE"); !set {
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	testscript.Main(m, map[string]func(){"agent": main})
}

// TestScripts runs testdata/*.txtar, which read as what a user types and sees.
// Each has a fleet of its own on the shared ZooKeeper.
func TestScripts(t *testing.T) {
	servers := zktest.Shared(t)
	testdata, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TESTDATA", testdata)
			env.Setenv("TURNSTILE_ZOOKEEPER_SERVERS", servers)
			env.Setenv("TURNSTILE_ZOOKEEPER_SESSION_TIMEOUT", "6s")
			env.Setenv("TURNSTILE_FLEET_NAME", "t"+strconv.FormatInt(time.Now().UnixNano(), 36)+"-"+filepath.Base(env.WorkDir)[len("script-"):])
			env.Setenv("TURNSTILE_LOG_LEVEL", "warn")
			env.Setenv("GORACE", os.Getenv("GORACE"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"flip":    flip,
			"until":   until,
			"pick":    pick,
			"records": records,
		},
	})
}

// flip FILE changes one bit in its middle.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	text, err := os.ReadFile(path)
	ts.Check(err)
	text[len(text)/2] ^= 1
	ts.Check(os.WriteFile(path, text, 0o644))
}

// until FILE waits until the file is there and not empty.
func until(ts *testscript.TestScript, neg bool, args []string) {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if info, err := os.Stat(ts.MkAbs(args[0])); err == nil && info.Size() > 0 {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s did not appear", args[0])
		}
	}
}

// config may not import frame; here both are at hand.
func TestSettingsAgreeWithTheFormat(t *testing.T) {
	load := func(name, value string) error {
		_, err := config.Load(nil, []string{name + "=" + value})
		return err
	}
	for _, c := range []struct {
		name  string
		value int
		ok    bool
	}{
		{"smallest turn", frame.MaxRecord + 1, true}, {"too small", frame.MaxRecord, false},
		{"largest turn", min(256<<10, frame.MaxBytes), true}, {"too large", 256<<10 + 1, false},
	} {
		if err := load("TURNSTILE_TURN_MAX_BYTES", strconv.Itoa(c.value)); (err == nil) != c.ok {
			t.Errorf("%s: turn.max_bytes %d: %v", c.name, c.value, err)
		}
	}
	for _, name := range []string{"a", "0-", "-a", "A", "a_b", "12345678901234567890123456789012", "123456789012345678901234567890123"} {
		if got, want := load("TURNSTILE_AGENT_NAME", name) == nil, frame.CheckAgent(name) == nil; got != want {
			t.Errorf("agent.name %q: settings say %v, the format %v", name, got, want)
		}
	}
}

// pick TO FROM RANGE… copies line ranges, such as 1-9.
func pick(ts *testscript.TestScript, neg bool, args []string) {
	text, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	lines := bytes.SplitAfter(text, []byte("\n"))
	var picked []byte
	for _, r := range args[2:] {
		var from, to int
		if _, err := fmt.Sscanf(r, "%d-%d", &from, &to); err != nil {
			ts.Fatalf("pick: %q is no range of lines", r)
		}
		picked = append(picked, bytes.Join(lines[from-1:to], nil)...)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), picked, 0o644))
}

// records TO FROM is grep -v '^#' FROM >TO.
func records(ts *testscript.TestScript, neg bool, args []string) {
	text, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	var kept []byte
	for line := range bytes.Lines(text) {
		if line[0] != '#' {
			kept = append(kept, line...)
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), kept, 0o644))
}
