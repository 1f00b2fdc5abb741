package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/stage"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/store"
)

// database is one that locks of a kind sell from, and its URL.
func database(t *testing.T, kind string) (*store.Store, string) {
	t.Helper()
	url := "sqlite:" + t.TempDir() + "/tickets.db"
	db, err := store.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Init(t.Context(), kind, []string{"ticket-1"}); err != nil {
		t.Fatal(err)
	}
	return db, url
}

// TestNewTroupe_saysWhyNoneComesUp and leaves nothing: no process, no directory.
func TestNewTroupe_saysWhyNoneComesUp(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	_, url := database(t, locks.Redis)
	s := settings{LockType: locks.Redis, ReserveFor: time.Minute, Database: url, Redis: "nonsense", SessionTimeout: time.Second}
	troupe, err := newTroupe(t.Context(), io.Discard, s, 2)
	if err == nil || troupe != nil || !strings.Contains(err.Error(), "use redis://host:port/0") {
		t.Errorf("%v, %v", troupe, err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if left := childrenOf(os.Getpid()); len(left) != 0 {
		t.Errorf("left: processes %v", left)
	}
}

// TestStampede_noInstanceOutlivesIt: it is killed, and one instance is paused.
func TestStampede_noInstanceOutlivesIt(t *testing.T) {
	_, url := database(t, locks.Redis)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	redis := stage.New(t, locks.Redis).Addr()
	parent := exec.Command(self, "stampede", "--spawn", "2", "--customers", "1000", "--rounds", "1000", "--redis-url", redis)
	parent.Env = append(os.Environ(), "DATABASE_URL="+url, "TMPDIR="+t.TempDir())
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var children []int
	stage.Until(t, "it has two instances", func(context.Context) bool {
		children = childrenOf(parent.Process.Pid)
		return len(children) == 2
	})
	_ = syscall.Kill(children[0], syscall.SIGSTOP) // it may have killed that one itself
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	for _, child := range children {
		stage.Until(t, "its instance has ended", func(context.Context) bool { _, lives := parentOf(child); return !lives })
	}
}

// childrenOf gives the processes that one has started.
func childrenOf(pid int) (children []int) {
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, entry := range entries {
		var child int
		if _, err := fmt.Sscanf(filepath.Base(entry), "%d", &child); err != nil {
			continue
		}
		if parent, lives := parentOf(child); lives && parent == pid {
			children = append(children, child)
		}
	}
	return children
}

// parentOf gives a process's parent, and whether it lives: a zombie does not.
func parentOf(pid int) (parent int, lives bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	var state string
	_, err = fmt.Sscanf(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " %s %d", &state, &parent)
	return parent, err == nil && state != "Z"
}

// TestStampede_leavesTheKindAlone: with another the service's reservations would be lost.
func TestStampede_leavesTheKindAlone(t *testing.T) {
	db, url := database(t, locks.ZooKeeper)
	before, err := db.Selling(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"stampede", "--spawn", "2"}, {"stampede", "--url", fake(t)}} {
		out, code := tickets(t, []string{"DATABASE_URL=" + url}, args...)
		if code != 2 || !strings.Contains(out, "the database says ephemeral_node sells: set LOCK_TYPE=ephemeral_node") {
			t.Errorf("%v: exit code %d:\n%s", args, code, out)
		}
	}
	if after, err := db.Selling(t.Context()); err != nil || after != before {
		t.Errorf("%+v, then %+v, %v", before, after, err)
	}
}

// answering is a service that is ready, and answers all who reserve alike, and all who book.
func answering(t *testing.T, reserve, book string) (url string, asked <-chan struct{}) {
	first := make(chan struct{})
	var once sync.Once
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			io.WriteString(w, `{"status":"ready"}`)
			return
		}
		once.Do(func() { close(first) })
		answer := reserve
		if r.URL.Path == "/book_ticket" {
			answer = book
		}
		if strings.Contains(answer, "error") {
			w.WriteHeader(http.StatusBadRequest)
		}
		io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	return server.URL, first
}

func refusing(code string) string { return `{"error":{"code":"` + code + `","message":"why"}}` }

// TestStampede_saysWhyItGaveUp, and leaves no ticket that was not sold.
func TestStampede_saysWhyItGaveUp(t *testing.T) {
	for _, c := range []struct {
		reserve, book, within string
		code                  int
		want                  string
	}{
		{refusing("unknown_ticket"), "", "1m", 2, "DATABASE_URL must be the database of the service at --url"},
		{refusing("reserved"), "", "500ms", 1, "nobody could reserve one"},
		{`{"expires_in":60}`, refusing("reservation_lost"), "500ms", 1, "for 1m0s each: --within must be longer than twice RESERVE_FOR"},
	} {
		db, url := database(t, locks.Redis)
		service, _ := answering(t, c.reserve, c.book)
		args := []string{"stampede", "--url", service, "--customers", "30", "--within", c.within}
		out, code := tickets(t, []string{"DATABASE_URL=" + url}, args...)
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit code %d:\n%s", c.reserve, code, out)
		}
		if n, err := db.Count(t.Context()); err != nil || n != 1 {
			t.Errorf("%s: %d tickets are left, %v", c.reserve, n, err)
		}
	}
}

// TestRun_interrupted: whatever was under way, it says so, and the shell knows.
func TestRun_interrupted(t *testing.T) {
	_, url := database(t, locks.Redis)
	service, asked := answering(t, refusing("reserved"), "")
	waited := make(chan struct{})
	var once sync.Once
	unready := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		once.Do(func() { close(waited) })
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer unready.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args  []string
		begun <-chan struct{}
	}{
		{[]string{"stampede", "--url", service, "--customers", "30"}, asked},
		{[]string{"try", "--url", unready.URL}, waited},
	} {
		cmd := exec.Command(self, c.args...)
		cmd.Env = append(os.Environ(), "DATABASE_URL="+url)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-c.begun
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 || !strings.HasSuffix(out.String(), "tickets: interrupted\n") {
			t.Errorf("%v: %v:\n%s", c.args, err, out.String())
		}
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
