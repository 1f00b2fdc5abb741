package ids_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

var (
	takers   = flag.Int("ids.takers", 24, "how many processes TestChurn has")
	churnFor = flag.Duration("ids.for", 4*time.Second, "for how long they take and lose numbers")
)

// span is one holding of a number, in ZooKeeper's own time: from the creation of its node
// to the last write that its holder made on the same session while it believed to hold.
type span struct {
	Number      int
	Token, Last uint64
	Process     int
}

// ledger is what all processes told.
type ledger struct {
	mu     sync.Mutex
	spans  map[span]uint64 // by a span without its Last
	faults []string
}

func (l *ledger) add(s span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := s.Last
	s.Last = 0
	l.spans[s] = max(l.spans[s], last)
}

func (l *ledger) holdings() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.spans)
}

func (l *ledger) fault(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, text)
}

// TestChurn has processes take numbers of a pool that is too small, and lose them: some
// give them back, some are killed, some stopped until their session has expired, and
// connections are cut.
//
// What is checked: the spans of one number are disjoint in zxids, which is to say that
// whenever ZooKeeper accepted a word from a holder, nobody else had been given its number
// since; every holder finds its own node while it holds; at the end nothing is left. What
// a holder believes between its last accepted word and its session's end cannot be
// checked against zxids, and is not promised to be true.
//
// 200 processes for a minute: go test ./internal/recipe/ids -run Churn -ids.takers 200 -ids.for 60s
func TestChurn(t *testing.T) {
	s := recipetest.NewStage(t)
	if err := queue.EnsurePath(recipetest.Background(t), s.Sess, witnesses); err != nil {
		t.Fatal(err)
	}
	var proxies []*zktest.Proxy
	for range 4 {
		proxies = append(proxies, zktest.NewProxy(t, s.Server.Addr))
	}
	c := &churn{
		t: t, book: &ledger{spans: map[span]uint64{}}, children: map[int]*child{},
		orders: orders{Dir: s.Dir, Size: max(2, *takers*3/5)}, proxies: proxies,
	}
	defer c.end(true)
	for range *takers {
		c.start()
	}
	kills, stops, cuts := 0, 0, 0
	end := time.Now().Add(*churnFor)
	late := end.Add(time.Minute) // on a machine that does much else
	for time.Now().Before(end) || c.book.holdings() < 2**takers && time.Now().Before(late) {
		time.Sleep(100 * time.Millisecond) // the rhythm of the faults
		switch rand.N(10) {
		case 0, 1, 2:
			c.kill(c.any())
			c.start()
			kills++
		case 3, 4:
			c.pause(c.any())
			stops++
		case 5:
			proxies[rand.N(len(proxies))].Cut()
			cuts++
		}
	}
	c.end(false)
	s.NothingLeft()
	holdings, most := c.book.judge(t)
	t.Logf("%d holdings by %d processes, of which %d were killed; %d stopped for long, %d cuts; one number had %d holders",
		holdings, c.started, kills, stops, cuts, most)
	if holdings < 2**takers {
		t.Errorf("only %d holdings: nothing was shown", holdings)
	}
}

func (l *ledger) judge(t *testing.T) (holdings, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, fault := range l.faults {
		t.Error(fault)
	}
	var all []span
	for s, last := range l.spans {
		s.Last = last
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Token, b.Token), cmp.Compare(a.Last, b.Last))
	})
	of := map[int]int{}
	for i, s := range all {
		of[s.Number]++
		most = max(most, of[s.Number])
		if i > 0 && all[i-1].Number == s.Number && s.Token <= all[i-1].Last {
			t.Errorf("two had number %d at once: %+v and %+v", s.Number, all[i-1], s)
		}
	}
	return len(all), most
}

// churn is the processes under way.
type churn struct {
	t        *testing.T
	book     *ledger
	orders   orders
	proxies  []*zktest.Proxy
	children map[int]*child
	started  int
	pauses   sync.WaitGroup
}

type child struct {
	number int
	cmd    *exec.Cmd
	stdin  io.Closer
	ended  chan struct{}
}

func (c *churn) start() {
	c.t.Helper()
	o := c.orders
	o.ZooKeeper = c.proxies[c.started%len(c.proxies)].Addr
	o.Process = c.started
	c.started++
	text, err := json.Marshal(o)
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(text), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	k := &child{o.Process, cmd, stdin, make(chan struct{})}
	c.children[o.Process] = k
	go func() { // ends with the child
		defer close(k.ended)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			s := span{Process: o.Process}
			if _, err := fmt.Sscanf(lines.Text(), "has %d %d %d", &s.Number, &s.Token, &s.Last); err == nil {
				c.book.add(s)
			} else if lines.Text() != "bye" {
				c.book.fault(fmt.Sprintf("process %d: %s", o.Process, lines.Text()))
			}
		}
		_ = cmd.Wait()
	}()
}

func (c *churn) any() *child {
	i := rand.N(len(c.children))
	for _, k := range c.children {
		if i--; i < 0 {
			return k
		}
	}
	return nil
}

func (c *churn) kill(k *child) {
	_ = k.cmd.Process.Kill()
	<-k.ended
	delete(c.children, k.number)
}

// pause stops a process for longer than its session lasts.
func (c *churn) pause(k *child) {
	_ = k.cmd.Process.Signal(syscall.SIGSTOP)
	c.pauses.Go(func() {
		select {
		case <-k.ended:
		case <-time.After(sessionTimeout * 3 / 2):
			_ = k.cmd.Process.Signal(syscall.SIGCONT)
		}
	})
}

// end has half of the processes give back what they have, and kills the others; abruptly
// kills all.
func (c *churn) end(abruptly bool) {
	c.pauses.Wait()
	for _, k := range c.children {
		if abruptly || k.number%2 == 0 {
			c.kill(k)
			continue
		}
		k.stdin.Close()
	}
	for _, k := range c.children {
		select {
		case <-k.ended:
		case <-time.After(recipetest.Patience):
			c.t.Errorf("process %d does not end", k.number)
			c.kill(k)
		}
		delete(c.children, k.number)
	}
}
