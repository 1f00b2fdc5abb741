package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
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
		{"serve --check", "LOCK_TYPE=redis", "--lock-type (LOCK_TYPE) is \"redis\": use distributed_lock or ephemeral_node"},
		{"serve --check", "RESERVE_FOR=soon", "--reserve-for (RESERVE_FOR) is \"soon\": use a number and a unit, for example 120s or 2m"},
		{"serve --check --reserve-for 120", "", "--reserve-for (RESERVE_FOR) is \"120\": use a number and a unit, for example 120s or 2m"},
		{"serve --check", "RESERVE_FOR=1ms", "RESERVE_FOR"},
		{"serve --check", "LISTEN=6005", "--listen (LISTEN) is \"6005\": use :6005 or host:6005"},
		{"serve --check", "DATABASE_URL=mysql://x", "DATABASE_URL"},
		{"serve --check", "DATABASE_URL=sqlite:", "DATABASE_URL"},
		{"serve --check", "DATABASE_URL=sqlite:/nonexistent/x.db", "there is no directory /nonexistent"},
		{"serve --check", "DATABASE_URL=postgre://me:secret@db/x", "postgre://me:xxxxx@db/x"},
		{"serve --check", "DATABASE_URL=postgres://me:secret@db:port/x", "postgres://me:xxxxx@db:port/x"},
		{"serve --check", "DATABASE_URL=postgres://me:secret@db/x?sslmode=nonsense", "sslmode"},
		{"serve --check", "REDIS_URL=localhost:6379", "--redis-url (REDIS_URL) is \"localhost:6379\": use redis://host:port/0"},
		{"serve --check --lock-type ephemeral_node", "ZOOKEEPER_SERVERS=localhost", "ZOOKEEPER_SERVERS"},
		{"serve --check --lock-type ephemeral_node", "SESSION_TIMEOUT=0s", "SESSION_TIMEOUT"},
		{"init --check --tickets -1", "", "TICKETS"},
		{"init --check", "TICKETS=many", "--tickets (TICKETS) is \"many\": use a whole number"},
		{"try --url localhost:6005", "", "--url is \"localhost:6005\": use http://host:port"},
		{"try --url http://localhost:6005/tickets", "", "and nothing after it"},
		{"stampede", "", "--url"},
		{"stampede --url http://localhost/x", "", "--url"},
		{"stampede --spawn 1", "", "--spawn is 1"},
		{"stampede --spawn -1", "", "--spawn is -1"},
		{"stampede --spawn 2 --tickets 0", "", "--tickets is 0"},
		{"stampede --spawn 2 --customers 3", "", "--customers is 3"},
		{"stampede --spawn 2 --walk-away 1", "", "--walk-away is 1"},
		{"demo --customers 1", "", "--customers"},
		{"demo more", "", "more"},
	} {
		out, code := tickets(t, []string{c.env}, strings.Fields(c.args)...)
		if code != 2 || !strings.Contains(out, c.want) || strings.Contains(out, "sec") {
			t.Errorf("%s tickets %s: exit code %d, want 2 and a word of %s:\n%s", c.env, c.args, code, c.want, out)
		}
		// A message that says what to do needs no other.
		if next := strings.Contains(out, "next step"); next != strings.Contains(out, "unknown") {
			t.Errorf("%s tickets %s: one next step is wanted:\n%s", c.env, c.args, out)
		}
	}
	for _, c := range []struct{ args, env string }{
		{"serve --check", "A=b"}, {"serve --check", "LOCK_TYPE=ephemeral_node"}, {"init --check", "LOCK_TYPE=ephemeral_node"}, {"--help", "A=b"}, {"stampede --help", "A=b"}, {"version", "A=b"}, {"--version", "A=b"},
		// What others mean by these is not for us.
		{"init --check", "WAIT=long"}, {"serve --check", "CHECK=no"}, {"stampede --help", "ROUNDS=many"},
		{"serve --check --lock-type ephemeral_node", "ZOOKEEPER_SERVERS=one:2181, two:2181"},
	} {
		if out, code := tickets(t, []string{c.env}, strings.Fields(c.args)...); code != 0 {
			t.Errorf("%s tickets %s: exit code %d:\n%s", c.env, c.args, code, out)
		}
	}
}

// TestInit_saysWhatItChanged: the reservations of the kind before are lost.
func TestInit_saysWhatItChanged(t *testing.T) {
	env := []string{"DATABASE_URL=sqlite:" + t.TempDir() + "/tickets.db", "LOCK_TYPE=", "TICKETS="}
	for _, c := range []struct{ args, want string }{
		{"init", "10 tickets are there, 10 of them new; distributed_lock sells\n"},
		{"init", "10 tickets are there, 0 of them new; distributed_lock sells\n"},
		{"init --tickets 12 --lock-type ephemeral_node", "12 tickets are there, 2 of them new; ephemeral_node sells (was distributed_lock; its reservations are lost)\n"},
		{"init --tickets 1 --lock-type ephemeral_node", "12 tickets are there, 0 of them new; ephemeral_node sells\n"},
	} {
		if out, code := tickets(t, env, strings.Fields(c.args)...); code != 0 || out != c.want {
			t.Errorf("%s: exit code %d: %q, want %q", c.args, code, out, c.want)
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
		troupe, err := newTroupe(t.Context(), io.Discard, set, 2)
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

// TestTry_keepsTheLastAnswer of a service that is not ready: that the time is over says nothing.
func TestTry_keepsTheLastAnswer(t *testing.T) {
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"error":{"code":"not_set_up","message":"run init"}}`)
		default:
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	err := try(t.Context(), io.Discard, server.URL, time.Second, 0)
	if err == nil || !strings.Contains(err.Error(), "503 not_set_up: run init") || strings.Contains(err.Error(), "is it running") {
		t.Error(err)
	}
}
