// Package tally is what all Go clients of bench-turns have in common: they count their
// turns, and are told when, and how much longer a sync takes.
package tally

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Outcome is what was counted between "begin" and "end".
type Outcome struct {
	Turns int       `json:"turns"`
	Waits []float64 `json:"waits"` // ms, from asking for a turn to its being on disk
	Syncs []float64 `json:"syncs"` // ms, what a sync took
}

// mostSamples bounds what a client keeps of waits and of syncs.
const mostSamples = 10_000

// Tally counts the turns of a process, which may be several clients.
type Tally struct {
	// Profile, when not empty, is where a profile of the time from "begin" to "end" goes.
	Profile string

	// Pace, when there is one, is told of another pace of the clients.
	Pace func(time.Duration)

	version string
	out     io.Writer
	going   chan struct{}
	extra   atomic.Int64 // what a sync takes longer, in ns

	mu      sync.Mutex
	missing map[int]bool // the clients that have had no turn yet
	now     Outcome
}

// New makes a tally of so many clients, numbered from first, that answers on out. version is
// told with "ready": when each client has had a turn, or of no clients at once.
func New(out io.Writer, first, clients int, version string) *Tally {
	t := &Tally{going: make(chan struct{}), out: out, version: version, missing: map[int]bool{}}
	for n := range clients {
		t.missing[first+n] = true
	}
	return t
}

// Turn counts a turn that is on disk. When each client has had one, the process says "ready".
func (t *Tally) Turn(client int, waited time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now.Turns++
	if len(t.now.Waits) < mostSamples {
		t.now.Waits = append(t.now.Waits, float64(waited)/1e6)
	}
	if t.missing[client] {
		if delete(t.missing, client); len(t.missing) == 0 {
			t.ready()
		}
	}
}

func (t *Tally) ready() { fmt.Fprintln(t.out, "ready", t.version) } // a parent that is gone ends us by its pipe

// Here says that all clients of the process could begin. They do when Going is closed.
func (t *Tally) Here() { fmt.Fprintln(t.out, "here") }

// Going is closed when the clients are to take turns.
func (t *Tally) Going() <-chan struct{} { return t.going }

// Sync has sync done, lets it take longer by what was ordered, and notes what it took.
func (t *Tally) Sync(sync func() error) error {
	began := time.Now()
	err := sync()
	time.Sleep(time.Duration(t.extra.Load()))
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.now.Syncs) < mostSamples {
		t.now.Syncs = append(t.now.Syncs, float64(time.Since(began))/1e6)
	}
	return err
}

// Obey does what it is told, until in ends: "go" closes Going, "sync 2ms" makes a sync take longer, "pace 1s"
// gives the clients another pace, "begin" begins to count, and "end" tells what was counted.
func (t *Tally) Obey(in io.Reader) error {
	for orders := bufio.NewScanner(in); orders.Scan(); {
		what, how, _ := strings.Cut(orders.Text(), " ")
		var err error
		switch what {
		case "go":
			close(t.going)
			if len(t.missing) == 0 {
				t.ready()
			}
		case "sync":
			var extra time.Duration
			extra, err = time.ParseDuration(how)
			t.extra.Store(int64(extra))
		case "pace":
			var pace time.Duration
			if pace, err = time.ParseDuration(how); t.Pace == nil {
				err = errors.New("this client has no pace")
			}
			if err == nil {
				t.Pace(pace)
			}
		case "begin":
			t.take()
			err = t.profile()
		case "end":
			said := t.take()
			pprof.StopCPUProfile()
			err = json.NewEncoder(t.out).Encode(said)
		default:
			err = fmt.Errorf("what is %q?", orders.Text())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take gives what was counted, and begins anew.
func (t *Tally) take() Outcome {
	t.mu.Lock()
	defer t.mu.Unlock()
	said := t.now
	t.now = Outcome{}
	return said
}

func (t *Tally) profile() error {
	if t.Profile == "" {
		return nil
	}
	file, err := os.Create(t.Profile)
	if err != nil {
		return err
	}
	return pprof.StartCPUProfile(file) // the process keeps it open
}

// Lines is a turn's text: three lines, the same for everybody.
func Lines(client, turn int) (text []byte) {
	at := time.Now().UTC().Format("2006-01-02 15:04:05.000")
	for line := range 3 {
		text = fmt.Appendf(text, "%s  client-%d  turn %d  line %d of 3\n", at, client, turn, line+1)
	}
	return text
}
