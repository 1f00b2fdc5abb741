package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/client"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/stage"
)

// beTickets makes the test's own program be tickets, for the instances that it starts.
const beTickets = "TICKETS_TEST_BE_TICKETS"

func TestMain(m *testing.M) {
	if os.Getenv(beTickets) != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Setenv(beTickets, "yes")
	os.Exit(m.Run())
}

// tickets runs a command, and gives what it printed and its exit code.
func tickets(t *testing.T, env []string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestDemo_bothKinds(t *testing.T) {
	for _, kind := range []string{locks.Redis, locks.ZooKeeper} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			out, code := tickets(t, nil, "demo", "--lock-type", kind, "--customers", "100")
			if code != 0 || !strings.Contains(out, "all as expected") || !strings.Contains(out, "10 of 10 tickets sold") || !strings.Contains(out, "fine: no ticket twice") {
				t.Errorf("exit code %d:\n%s", code, out)
			}
		})
	}
}

func TestRun_wrongUsageIsMetAtTheDoor(t *testing.T) {
	for _, c := range []struct {
		args, env string
		want      string
	}{
		{"nonsense", "", "unknown command"},
		{"serve --no-such-flag", "", "no-such-flag"},
		{"serve --check", "LOCK_TYPE=redis", "LOCK_TYPE"},
		{"serve --check", "RESERVE_FOR=soon", "RESERVE_FOR"},
		{"serve --check", "RESERVE_FOR=1ms", "RESERVE_FOR"},
		{"serve --check", "DATABASE_URL=mysql://x", "DATABASE_URL"},
		{"serve --check", "DATABASE_URL=sqlite:", "DATABASE_URL"},
		{"serve --check", "REDIS_URL=localhost", "REDIS_URL"},
		{"serve --check --lock-type ephemeral_node", "ZOOKEEPER_SERVERS=localhost", "ZOOKEEPER_SERVERS"},
		{"serve --check --lock-type ephemeral_node", "SESSION_TIMEOUT=0s", "SESSION_TIMEOUT"},
		{"init --check --tickets -1", "", "TICKETS"},
		{"init --check", "TICKETS=many", "TICKETS"},
		{"stampede", "", "--url"},
		{"stampede --spawn 1", "", "--spawn"},
		{"stampede --spawn 2 --tickets 0", "", "ticket"},
		{"demo --customers 1", "", "--customers"},
		{"demo more", "", "more"},
	} {
		out, code := tickets(t, []string{c.env}, strings.Fields(c.args)...)
		if code != 2 || !strings.Contains(out, c.want) || !strings.Contains(out, "next step") {
			t.Errorf("%s tickets %s: exit code %d, want 2 and a word of %s:\n%s", c.env, c.args, code, c.want, out)
		}
	}
	for _, c := range []struct{ args, env string }{
		{"serve --check", "A=b"}, {"serve --check", "LOCK_TYPE=ephemeral_node"}, {"init --check", "LOCK_TYPE=ephemeral_node"}, {"--help", "A=b"}, {"stampede --help", "A=b"},
	} {
		if out, code := tickets(t, []string{c.env}, strings.Fields(c.args)...); code != 0 {
			t.Errorf("%s tickets %s: exit code %d:\n%s", c.env, c.args, code, out)
		}
	}
}

// TestServe_killed: with ZooKeeper a reservation vanishes with its instance, at the latest when
// the session times out. In Redis it lives on, and any instance books it.
func TestServe_killed(t *testing.T) {
	stage.Each(t, func(t *testing.T, s *stage.Stage) {
		set := settings{
			LockType: s.Kind, ReserveFor: time.Minute, Database: "sqlite:" + t.TempDir() + "/tickets.db",
			Redis: s.Addr(), ZooKeeper: s.Addr(), SessionTimeout: stage.Timeout,
		}
		db, err := set.openStore()
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.Init(t.Context(), s.Kind, []string{"ticket-1"}); err != nil {
			t.Fatal(err)
		}
		troupe, err := newTroupe(t.Context(), set, 2)
		if err != nil {
			t.Fatal(err)
		}
		defer troupe.end()
		one, two := client.New(troupe.urls()[0], 10*time.Second), client.New(troupe.urls()[1], 10*time.Second)
		if a, err := one.Reserve(t.Context(), "ticket-1", "alice"); err != nil || a.Status != 200 {
			t.Fatal(a, err)
		}
		troupe.instances[0].signal(syscall.SIGKILL)
		killed := time.Now()
		if s.Kind == locks.Redis {
			if a, err := two.Book(t.Context(), "ticket-1", "alice"); err != nil || a.Status != 200 {
				t.Errorf("%+v, %v", a, err)
			}
			return
		}
		stage.Until(t, "it is free", func(ctx context.Context) bool {
			a, err := two.Reserve(ctx, "ticket-1", "bob")
			return err == nil && a.Status == 200
		})
		if took := time.Since(killed); took > stage.Timeout+2*time.Second { // what is promised, and two of its ticks
			t.Errorf("free after %v, with a session timeout of %v", took, stage.Timeout)
		}
		if a, err := two.Book(t.Context(), "ticket-1", "alice"); err != nil || a.Code() != "not_reserved" {
			t.Errorf("%+v, %v", a, err)
		}
	})
}

// TestTry_saysWhatIsWrong: a service that books for everybody does not pass.
func TestTry_saysWhatIsWrong(t *testing.T) {
	server := fake(t)
	var out bytes.Buffer
	err := try(t.Context(), &out, server, time.Second, 0)
	if err == nil || !strings.Contains(out.String(), "WRONG book without reserving") {
		t.Errorf("%v:\n%s", err, out.String())
	}
	if _, code := tickets(t, nil, "try", "--url", "http://127.0.0.1:1", "--wait", "100ms"); code != 1 {
		t.Errorf("without a service: exit code %d", code)
	}
}

// TestJudge_findsEachFault: the verdict of a stampede can be no.
func TestJudge_findsEachFault(t *testing.T) {
	for what, c := range map[string]struct {
		told map[string][]string
		want string
	}{
		"as it should be":  {map[string][]string{"t-1": {"alice"}, "t-2": {"bob"}}, ""},
		"told to two":      {map[string][]string{"t-1": {"alice", "carol"}, "t-2": {"bob"}}, "t-1"},
		"told to another":  {map[string][]string{"t-1": {"carol"}, "t-2": {"bob"}}, "t-1"},
		"told to nobody":   {map[string][]string{"t-2": {"bob"}}, "t-1"},
		"one was not sold": {map[string][]string{"t-1": {"alice"}, "t-2": {"bob"}, "t-3": {"carol"}}, "t-3 was sold 0 times"},
	} {
		db := stage.Store(t, locks.Redis, 0)
		if err := db.Init(t.Context(), locks.Redis, []string{"t-1", "t-2", "t-3"}); err != nil {
			t.Fatal(err)
		}
		for n, customer := range []string{"alice", "bob"} {
			token, ticket := locks.Token{Epoch: 1, Number: int64(n + 1)}, []string{"t-1", "t-2"}[n]
			if err := stage.Reserve(t.Context(), db, ticket, customer, token); err != nil {
				t.Fatal(err)
			}
			if err := db.Book(t.Context(), ticket, token); err != nil {
				t.Fatal(err)
			}
		}
		r := &rush{db: db, out: io.Discard}
		names := []string{"t-1", "t-2", "t-3"}[:max(2, len(c.told))]
		err := r.judge(t.Context(), &outcome{told: c.told}, names, time.Second, &faults{})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}
