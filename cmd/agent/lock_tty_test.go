package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminalOf is a terminal with a shell's script at it.
type terminalOf struct {
	t    *testing.T
	keys *os.File // what is typed
	mu   sync.Mutex
	seen strings.Builder
	more chan struct{}
	done chan struct{}
}

// atTerminal runs a script of bash, with job control, at a terminal of its own.
func (l *lockTest) atTerminal(script string) *terminalOf {
	l.t.Helper()
	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(l.tmp, "agent")); err != nil {
		l.t.Fatal(err)
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		l.t.Fatal("no terminals here: ", err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	defer slave.Close()
	cmd := exec.Command("bash", "-mc", script)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = l.tmp, slave, slave, slave
	cmd.Env = append(os.Environ(), l.mark, "TMPDIR="+l.tmp, "TURNSTILE_ZOOKEEPER_SERVERS="+l.addr, "TURNSTILE_ZOOKEEPER_SESSION_TIMEOUT=10s")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	term := &terminalOf{t: l.t, keys: master, more: make(chan struct{}, 1), done: make(chan struct{})}
	go func() { // ends with all that has the terminal open
		defer close(term.done)
		_, _ = io.Copy(term, master)
		cmd.Wait()
	}()
	l.t.Cleanup(func() {
		cmd.Process.Kill()
		<-term.done
		master.Close()
	})
	return term
}

func (s *terminalOf) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.Write(p)
	select {
	case s.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *terminalOf) shows(text string) {
	s.t.Helper()
	patience := time.After(lockPatience)
	for {
		s.mu.Lock()
		seen := s.seen.String()
		s.mu.Unlock()
		if strings.Contains(seen, text) {
			return
		}
		select {
		case <-s.more:
		case <-patience:
			s.t.Fatalf("never shows %q; shows %q", text, seen)
		}
	}
}

func (s *terminalOf) types(keys string) {
	s.t.Helper()
	if _, err := s.keys.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

func TestLockAtATerminal(t *testing.T) {
	for _, c := range []struct {
		name, script string
		play         func(*lockTest, *terminalOf)
	}{
		{"the command reads from it", `./agent lock it -- sh -c 'echo up; read x; echo "got $x"'; echo code $?`,
			func(_ *lockTest, s *terminalOf) {
				s.shows("up")
				s.types("hello\n")
				s.shows("got hello")
				s.shows("code 0")
			}},
		{"and so when its output is read by another", `./agent lock it -- sh -c 'echo up; read x; echo "got $x"' | cat; echo code $?`,
			func(_ *lockTest, s *terminalOf) {
				s.shows("up")
				s.types("hello\n")
				s.shows("got hello")
				s.shows("code 0")
			}},
		{"the command sees that it has it", `./agent lock it -- sh -c 'set -- $(ps -o pgid=,tpgid= -p $$); [ $1 = $2 ]'; echo code $?`,
			func(_ *lockTest, s *terminalOf) { s.shows("code 0") }},
		{"but in the background it has not", `./agent lock it -- sh -c 'set -- $(ps -o pgid=,tpgid= -p $$); [ $1 = $2 ]' & wait $!; echo code $?`,
			func(_ *lockTest, s *terminalOf) { s.shows("code 1") }},
		{"the shell's script has it again", `./agent lock it -- true; set +m; ./agent lock it -- true; read x; echo "got $x"`,
			func(_ *lockTest, s *terminalOf) {
				s.types("hello\n")
				s.shows("got hello")
			}},
		// It is the shell itself that waits: what it had just forked could miss the signal.
		{"Ctrl-C", `trap : INT; ./agent lock it -- sh -c 'echo up; read x'; echo code $?`,
			func(_ *lockTest, s *terminalOf) {
				s.shows("up")
				s.types("\x03")
				s.shows("code 130")
			}},
		{"Ctrl-Z and fg", `./agent lock it -- sh -c 'echo up; read x; echo "got $x"'; echo "code $?"; fg; echo "end $?"`,
			func(_ *lockTest, s *terminalOf) {
				s.shows("up")
				s.types("\x1a")
				s.shows("code 147") // bash's for SIGSTOP
				s.types("hello\n")
				s.shows("got hello")
				s.shows("end 0")
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLockTest(t)
			term := l.atTerminal(c.script)
			c.play(l, term)
			<-term.done
		})
	}
}
