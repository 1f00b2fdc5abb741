package child_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/child"
)

// The test's binary is also the program that runs a command, because that has no other
// children, and its guard.
func TestMain(m *testing.M) {
	switch os.Args[0] {
	case "guard":
		fmt.Fprintln(os.Stderr, child.Guard())
		os.Exit(99)
	case "runner":
		os.Exit(run(os.Args[1], os.Args[2]))
	}
	os.Exit(m.Run())
}

// run runs a script of the shell, and does what how says when a line comes.
func run(how, script string) int {
	safe := time.Hour
	if how == "never renewed" {
		safe = 300 * time.Millisecond
	}
	p, err := child.Start(child.Command{
		Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: os.Environ(), Guard: []string{"guard"},
		Safe: func() time.Duration { return safe },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 98
	}
	switch how {
	case "wait", "never renewed":
		<-p.Done()
		p.Release()
		return p.Code()
	}
	_, _ = bufio.NewReader(os.NewFile(3, "orders")).ReadString('\n')
	switch how {
	case "kill":
		p.Kill()
	case "safe for a moment":
		p.Renew()
		safe = 50 * time.Millisecond
		p.Renew()
	case "terminate":
		p.Signal(syscall.SIGTERM)
		<-p.Done()
		p.Kill()
	}
	<-p.Gone()
	if p.Overdue() != (how == "safe for a moment") {
		return 97
	}
	return p.Code()
}

const patience = 20 * time.Second

// runner is such a program, and what it started.
type runner struct {
	*exec.Cmd
	t      *testing.T
	mark   string
	out    *bufio.Reader
	errs   bytes.Buffer
	orders *os.File
}

func start(t *testing.T, how, script string) *runner {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{Cmd: exec.Command(self), t: t, mark: fmt.Sprintf("CHILD_TEST=%s-%d", filepath.Base(t.TempDir()), time.Now().UnixNano())}
	r.Args = []string{"runner", how, script}
	r.Env = append(os.Environ(), r.mark)
	r.Stderr = &r.errs
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	r.ExtraFiles, r.orders = []*os.File{theirs}, ours
	out, err := r.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.out = bufio.NewReader(out)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ours.Close()
		r.Process.Kill()
		r.Wait()
		defer func() {
			for _, pid := range r.alive() {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}()
		r.eventually("nothing is left", func() bool { return len(r.alive()) == 0 })
	})
	return r
}

// line reads what the script prints.
func (r *runner) line() string {
	r.t.Helper()
	line, err := r.out.ReadString('\n')
	if err != nil {
		r.t.Fatalf("no line: %v; %s", err, r.errs.String())
	}
	return strings.TrimSpace(line)
}

func (r *runner) ends(code int) {
	r.t.Helper()
	_, _ = io.Copy(io.Discard, r.out)
	r.Wait()
	if got := r.ProcessState.ExitCode(); got != code {
		r.t.Errorf("exit code %d, want %d: %s", got, code, r.errs.String())
	}
}

// alive lists the processes that the runner started; zombies are none.
func (r *runner) alive() (pids []int) {
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, environ := range environs {
		text, err := os.ReadFile(environ)
		pid, _ := strconv.Atoi(strings.Split(environ, "/")[2])
		if err == nil && bytes.Contains(text, []byte(r.mark)) && pid != r.Process.Pid {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (r *runner) eventually(what string, holds func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("never: %s; %s", what, r.errs.String())
		}
	}
}

func TestExitCodes(t *testing.T) {
	for script, code := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 $$": 137, "kill -HUP $$": 129} {
		start(t, "wait", script).ends(code)
	}
}

// stubborn is a tree that does not end by itself: in the group, out of it, and out of the
// family.
const stubborn = `trap "" TERM INT HUP
sleep 1000 &
setsid sleep 1000 &
(setsid sh -c 'sleep 1000 & sleep 1000' &)
echo up
while :; do sleep 1000; done`

const many = 1 + 1 + 1 + 3 + 1 + 1 // with the loop's sleep and the guard

func TestKillLeavesNothing(t *testing.T) {
	r := start(t, "kill", stubborn)
	r.line()
	r.eventually("all are there", func() bool { return len(r.alive()) >= many })
	fmt.Fprintln(r.orders)
	r.ends(137)
	if left := r.alive(); len(left) > 0 {
		t.Errorf("%v live", left)
	}
}

// Nobody else sends the signal but Kill, after the command has ended by itself.
func TestKillFindsWhatTheCommandLeft(t *testing.T) {
	r := start(t, "terminate", `setsid sleep 1000 & sh -c 'trap "" TERM; while :; do sleep 1000; done' & trap 'exit 5' TERM; echo up; wait`)
	r.line()
	r.eventually("all are there", func() bool { return len(r.alive()) >= 5 })
	fmt.Fprintln(r.orders)
	r.ends(5)
	if left := r.alive(); len(left) > 0 {
		t.Errorf("%v live", left)
	}
}

const inTheGroup = `trap "" TERM INT HUP QUIT USR1; sleep 1000 & sh -c 'sleep 1000 & sleep 1000' & echo up; while :; do sleep 1000; done`

func TestTheGroupDiesWithUs(t *testing.T) {
	r := start(t, "kill", inTheGroup)
	r.line()
	r.Process.Kill()
	r.eventually("all are dead", func() bool { return len(r.alive()) == 0 })
}

func TestTheGuardOutlivesWhatIsMeantForTheCommand(t *testing.T) {
	r := start(t, "kill", `echo $(ps -o pgid= -p $$); `+inTheGroup)
	group, err := strconv.Atoi(r.line())
	if err != nil {
		t.Fatal(err)
	}
	r.line()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1} {
		syscall.Kill(-group, sig)
	}
	r.Process.Kill()
	r.eventually("all are dead", func() bool { return len(r.alive()) == 0 })
}

func TestTheGroupDiesWhenItsTimeIsOver(t *testing.T) {
	r := start(t, "safe for a moment", stubborn)
	r.line()
	r.eventually("all are there", func() bool { return len(r.alive()) >= many })
	fmt.Fprintln(r.orders)
	r.ends(137)
}

// Whoever is stopped before its first Renew leaves nothing either: the guard was told
// before the command began.
func TestTheGroupDiesThoughItsTimeIsNeverRenewed(t *testing.T) {
	start(t, "never renewed", "exec sleep 10").ends(137)
}

func TestNothingRunsUnguarded(t *testing.T) {
	r := start(t, "wait", `echo $(ps -o pgid= -p $$); `+inTheGroup)
	guard, err := strconv.Atoi(r.line())
	if err != nil {
		t.Fatal(err)
	}
	r.line()
	syscall.Kill(guard, syscall.SIGKILL)
	r.ends(137)
}

// Orphans are ours to reap, however long the command runs.
func TestOrphansAreReaped(t *testing.T) {
	r := start(t, "kill", `(true &); (true &); (sleep 0.01 &); echo up; sleep 1000`)
	r.line()
	r.eventually("no zombies", func() bool {
		out, _ := exec.Command("ps", "--ppid", strconv.Itoa(r.Process.Pid), "-o", "stat=").Output()
		return len(out) > 0 && !strings.Contains(string(out), "Z")
	})
}

// What the command leaves in the background is not held up, nor does it hold us up.
func TestReleaseLeavesTheRestAlone(t *testing.T) {
	r := start(t, "wait", `sleep 1000 >/dev/null 2>&1 & echo $!`)
	left, err := strconv.Atoi(r.line())
	if err != nil {
		t.Fatal(err)
	}
	r.ends(0)
	r.eventually("the guard has gone", func() bool { return len(r.alive()) <= 1 })
	if err := syscall.Kill(left, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	r.eventually("it has ended", func() bool { return len(r.alive()) == 0 })
}

func TestWhatCannotBeStarted(t *testing.T) {
	for name, c := range map[string]child.Command{
		"no guard":   {Path: "/bin/true", Args: []string{"true"}, Guard: []string{"runner", "wait", "exit 1"}},
		"no command": {Path: "/no/such", Args: []string{"such"}, Guard: []string{"guard"}},
	} {
		p, err := child.Start(c)
		if unguarded := errors.Is(err, child.ErrUnguarded); err == nil || unguarded != (name == "no guard") {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

func TestGuardIsNoGameForOthers(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Args = []string{"guard"}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 99 || !strings.Contains(string(out), "a guard leads a process group of its own") {
		t.Errorf("%v: %s", err, out)
	}
}
