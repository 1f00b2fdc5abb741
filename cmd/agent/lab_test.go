package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestLab types what docs/lab.md says, in as many terminals as it says, and compares what
// is seen with what it shows, but for numbers, times and identifiers, which differ each
// time. A line of "…" stands for any lines, "…" in a line for anything.
//
// A block ```console 2 is what happens in terminal 2. "$ " begins a command, "^C"
// interrupts the one that runs; a block without either shows what it prints meanwhile.
func TestLab(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	text, err := os.ReadFile("../../docs/lab.md")
	if err != nil {
		t.Fatal(err)
	}
	lab := newLab(t, string(text))
	blocks := parseLab(string(text))
	if len(blocks) < 10 {
		t.Fatalf("%d blocks found", len(blocks))
	}
	for _, b := range blocks {
		lab.play(b)
	}
	for name, term := range lab.terminals {
		if term.cmd != nil {
			lab.ended("docs/lab.md: terminal "+name+", at the end", term)
		}
	}
}

type labBlock struct {
	line     int
	terminal string
	lines    []string
}

var opening = regexp.MustCompile("^```console ?(\\S*)$")

func parseLab(text string) (blocks []labBlock) {
	var in *labBlock
	for i, line := range strings.Split(text, "\n") {
		switch m := opening.FindStringSubmatch(line); {
		case in == nil && m != nil:
			in = &labBlock{line: i + 1, terminal: m[1]}
		case in != nil && line == "```":
			blocks = append(blocks, *in)
			in = nil
		case in != nil:
			in.lines = append(in.lines, line)
		}
	}
	return blocks
}

var export = regexp.MustCompile(`(?m)^    export (\S+=\S*)`)

// exported is what a text says to set in every terminal.
func exported(text string) (vars []string) {
	for _, m := range export.FindAllStringSubmatch(text, -1) {
		vars = append(vars, m[1])
	}
	return vars
}

type lab struct {
	t         *testing.T
	dir       string
	port      string   // in place of 2181
	plain     []string // the environment of somebody who has set nothing
	exports   []string // what the text says to export
	terminals map[string]*terminal
}

func newLab(t *testing.T, text string) *lab {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	_, port, _ := net.SplitHostPort(free.Addr().String())
	l := &lab{t: t, dir: t.TempDir(), port: port, terminals: map[string]*terminal{}, exports: exported(text)}
	l.plain = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TURNSTILE_ZOOKEEPER_SERVERS=127.0.0.1:" + port}
	t.Cleanup(func() {
		for _, term := range l.terminals {
			if term.cmd != nil {
				syscall.Kill(-term.cmd.Process.Pid, syscall.SIGKILL)
				<-term.done
			}
		}
	})
	return l
}

// terminal has at most one command that runs.
type terminal struct {
	typed string
	cmd   *exec.Cmd
	done  chan struct{}
	code  int

	mu   sync.Mutex
	out  bytes.Buffer
	more chan struct{} // something was printed, or it ended
	read int           // how many bytes of out were compared
}

func (s *terminal) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Write(p)
	select {
	case s.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (l *lab) play(b labBlock) {
	term := l.terminals[b.terminal]
	if term == nil {
		term = &terminal{}
		l.terminals[b.terminal] = term
	}
	for i := 0; i < len(b.lines); {
		where, ends := fmt.Sprintf("docs/lab.md:%d", b.line+i+1), false
		switch typed, isCommand := strings.CutPrefix(b.lines[i], "$ "); {
		case isCommand:
			for i++; strings.HasSuffix(typed, "\\"); i++ {
				typed = typed[:len(typed)-1] + strings.TrimSpace(b.lines[i])
			}
			l.start(where, term, typed)
		case b.lines[i] == "^C":
			i++
			ends = true
			if term.cmd == nil {
				l.t.Fatalf("%s: nothing runs", where)
			}
			syscall.Kill(-term.cmd.Process.Pid, syscall.SIGINT)
		}
		from := i
		for i < len(b.lines) && !strings.HasPrefix(b.lines[i], "$ ") && b.lines[i] != "^C" {
			i++
		}
		// What is followed by another command in its block has ended by then.
		ends = ends || i < len(b.lines) && b.lines[i] != "^C"
		l.compare(where, term, b.lines[from:i], ends)
	}
}

func (l *lab) start(where string, term *terminal, typed string) {
	l.t.Helper()
	if term.cmd != nil {
		l.ended(where, term)
	}
	code := term.code
	*term = terminal{typed: typed, done: make(chan struct{}), more: make(chan struct{}, 1)}
	script := fmt.Sprintf("(exit %d); %s", code, strings.ReplaceAll(typed, "127.0.0.1:2181", "127.0.0.1:"+l.port))
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = l.dir
	cmd.Env = slices.Concat(l.plain, l.exports)
	cmd.Stdout, cmd.Stderr = term, term
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		l.t.Fatalf("%s: %v", where, err)
	}
	term.cmd = cmd
	go func() { // ends with the command, which the lab's end kills
		cmd.Wait()
		term.code = cmd.ProcessState.ExitCode()
		close(term.done)
	}()
}

// ended waits until the terminal's command has.
func (l *lab) ended(where string, term *terminal) {
	l.t.Helper()
	select {
	case <-term.done:
		term.cmd = nil
	case <-time.After(labPatience):
		syscall.Kill(-term.cmd.Process.Pid, syscall.SIGQUIT) // a Go program says then where it is
		select {
		case <-term.done:
		case <-time.After(time.Second):
		}
		term.mu.Lock()
		defer term.mu.Unlock()
		l.t.Fatalf("%s: still runs: %s\nprinted: %s", where, term.typed, term.out.String())
	}
}

const labPatience = 30 * time.Second

// compare waits until the terminal shows what it should.
func (l *lab) compare(where string, term *terminal, shown []string, end bool) {
	l.t.Helper()
	if end {
		l.ended(where, term)
	}
	if len(shown) == 0 && !end {
		return
	}
	deadline := time.After(labPatience)
	for {
		over := term.cmd == nil
		if !over {
			select {
			case <-term.done:
				over = true
			default:
			}
		}
		term.mu.Lock()
		seen := term.out.String()[term.read:]
		term.mu.Unlock()
		n, ok := l.matches(shown, seen, over)
		if ok {
			term.read += n
			return
		}
		if over {
			l.t.Fatalf("%s: %s\nshown:\n%s\nseen:\n%s", where, term.typed, strings.Join(shown, "\n"), seen)
		}
		select {
		case <-term.more:
		case <-term.done:
		case <-deadline:
			l.t.Fatalf("%s: %s\nshown:\n%s\nseen so far:\n%s", where, term.typed, strings.Join(shown, "\n"), seen)
		}
	}
}

// matches tells how many bytes of seen are what is shown. When all was said, over, there
// must be no more.
func (l *lab) matches(shown []string, seen string, over bool) (n int, ok bool) {
	var pattern strings.Builder
	pattern.WriteString("^")
	for i, line := range shown {
		if line == "…" && i == len(shown)-1 {
			if over {
				pattern.WriteString("(?s:.*)")
			}
			break
		}
		if line == "…" {
			pattern.WriteString("(?:.*\n)*?")
			continue
		}
		pattern.WriteString(alike(line) + " *\n")
	}
	if over {
		pattern.WriteString("$")
	}
	here := strings.ReplaceAll(seen, "127.0.0.1:"+l.port, "127.0.0.1:2181")
	found := regexp.MustCompile(pattern.String()).FindStringIndex(here)
	if found == nil || over {
		return len(seen), found != nil
	}
	// The port may have another length than the one shown.
	lines := strings.Count(here[:found[1]], "\n")
	for range lines {
		n += strings.IndexByte(seen[n:], '\n') + 1
	}
	return n, true
}

var varies = regexp.MustCompile(`0x[0-9a-f]+|[0-9a-f]{8,}(?:-[0-9a-f]{4,})*|\d+(?:\.\d+)?(?:ns|µs|ms|s\b|m\b|h\b)(?:\d+(?:ms|s))?|\d+|…| +`)

// alike is a pattern for lines that differ only in what differs each time.
func alike(line string) string {
	var pattern strings.Builder
	at := 0
	for _, m := range varies.FindAllStringIndex(line, -1) {
		pattern.WriteString(regexp.QuoteMeta(line[at:m[0]]))
		switch word := line[m[0]:m[1]]; {
		case word == "…":
			pattern.WriteString(".*")
		case word[0] == ' ':
			pattern.WriteString(" +")
		case strings.HasPrefix(word, "0x"):
			pattern.WriteString("0x[0-9a-f]+")
		case len(word) >= 8 && strings.ContainsAny(word, "abcdef"):
			pattern.WriteString("[0-9a-f-]+")
		case strings.ContainsAny(word, "µmshn"):
			pattern.WriteString(`[0-9.]+(?:ns|µs|ms|s|m|h)(?:[0-9]+(?:ms|s))?`)
		default:
			pattern.WriteString(`\d+`)
		}
		at = m[1]
	}
	pattern.WriteString(regexp.QuoteMeta(strings.TrimRight(line[at:], " ")))
	return pattern.String()
}
