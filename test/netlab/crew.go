package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/test/netlab/wire"
)

// crew is a fleet in the lab: agents that are fed records, and who reads along.
type crew struct {
	l         *lab
	fleet     string
	flags     []string // for every agent
	file      string   // on the volume
	pace      time.Duration
	members   []*member
	followers []follower
	zk        *zk.Conn

	mu     sync.Mutex
	heads  []seen // as head changed
	stop   context.CancelFunc
	closed chan struct{} // when nobody watches any more
}

// member is an agent that is started again when it died.
type member struct {
	name  string
	at    *machine
	lives int
	fed   map[string]int // how many records each life was given at most, by the word they begin with
}

// follower prints the file as it grows, to a file of its machine's own.
type follower struct {
	name, out string
	at        *machine
}

// seen is a head, and when it was seen.
type seen struct {
	at   time.Time
	turn uint64
}

// newCrew starts n agents on each of A and B.
func (l *lab) newCrew(ctx context.Context, fleet string, n int, pace time.Duration, flags ...string) (*crew, error) {
	c := &crew{l: l, fleet: fleet, flags: flags, file: fleet + ".txt", pace: pace, closed: make(chan struct{})}
	conn, _, err := zk.Connect([]string{l.zookeeper}, 10*time.Second, zk.WithLogInfo(false))
	if err != nil {
		return nil, err
	}
	c.zk = conn
	ctx, c.stop = context.WithCancel(ctx)
	go c.watch(ctx)
	for i := range 2 * n {
		m := &member{name: fmt.Sprintf("%s-%d", strings.ToLower(clients[i%2]), i/2+1), at: l.machines[clients[i%2]], fed: map[string]int{}}
		c.members = append(c.members, m)
		if err := c.begin(ctx, m); err != nil {
			c.end()
			return nil, err
		}
	}
	return c, nil
}

func (c *crew) end() {
	c.stop()
	c.zk.Close()
	<-c.closed
}

func (c *crew) agent(command string, flags ...string) []string {
	_, port, _ := strings.Cut(c.l.zookeeper, ":")
	return append([]string{"/bin/agent", command, "--zookeeper", "10.8.0.2:" + port, "--fleet", c.fleet, "--data", "/srv/" + c.file}, flags...)
}

func (m *member) process(c *crew) string { return c.fleet + "." + m.name }
func (m *member) acks(c *crew) string    { return "/tmp/" + m.process(c) + ".acks" }
func (m *member) word() string           { return fmt.Sprintf("%s.%d", m.name, m.lives) }

// begin starts an agent, for the first time or again.
func (c *crew) begin(ctx context.Context, m *member) error {
	m.lives++
	args := c.agent("run", append([]string{"--source", "stdin", "--name", m.name, "--ack-log", m.acks(c)}, c.flags...)...)
	return m.at.ask(ctx, "Start", wire.Start{
		Name: m.process(c), Args: args, Log: "/tmp/" + m.process(c) + ".log", Feed: m.word(), Pace: c.pace,
	}, &struct{}{})
}

// ended tells whether an agent is over, within so long.
func (c *crew) ended(ctx context.Context, m *member, within time.Duration) (wire.Ended, error) {
	var e wire.Ended
	err := m.at.ask(ctx, "Wait", wire.Wait{Name: m.process(c), For: within}, &e)
	if e.Over {
		m.fed[m.word()] = e.Fed
	}
	return e, err
}

// kill kills an agent and starts it again.
func (c *crew) kill(ctx context.Context, m *member) error {
	if err := c.signal(ctx, m, syscall.SIGKILL); err != nil {
		return err
	}
	if e, err := c.ended(ctx, m, time.Minute); err != nil || !e.Over {
		return errors.Join(err, fmt.Errorf("%s does not die of SIGKILL", m.name))
	}
	return c.begin(ctx, m)
}

func (c *crew) signal(ctx context.Context, m *member, what syscall.Signal) error {
	return m.at.ask(ctx, "Signal", wire.Signal{Name: m.process(c), Number: int(what)}, &struct{}{})
}

// alive fails when an agent ended by itself.
func (c *crew) alive(ctx context.Context) error {
	for _, m := range c.members {
		e, err := c.ended(ctx, m, 0)
		if err != nil {
			return err
		}
		if e.Over {
			return fmt.Errorf("%s ended by itself, with %d: %s", m.name, e.Code, c.lastWords(ctx, m))
		}
	}
	return nil
}

func (c *crew) lastWords(ctx context.Context, m *member) string {
	log, err := m.at.read(ctx, "/tmp/"+m.process(c)+".log")
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-1500):])
}

// follow has a machine print the file as it grows.
func (c *crew) follow(ctx context.Context, m *machine, name string, args ...string) error {
	f := follower{name: name + " on " + m.role, out: fmt.Sprintf("/tmp/%s.%s", c.fleet, name), at: m}
	c.followers = append(c.followers, f)
	return m.ask(ctx, "Start", wire.Start{Name: f.out, Args: args, Log: f.out + ".log", Out: f.out}, &struct{}{})
}

// watch notes each head that it sees, until it is stopped and the connection closed.
func (c *crew) watch(ctx context.Context) {
	defer close(c.closed)
	node := "/turnstile/" + c.fleet + "/head"
	for ctx.Err() == nil {
		data, _, event, err := c.zk.GetW(node)
		if errors.Is(err, zk.ErrNoNode) {
			_, _, event, err = c.zk.ExistsW(node)
		}
		if err != nil { // the connection is made anew
			_ = pause(ctx, 100*time.Millisecond) // the loop sees that it is over
			continue
		}
		if head, err := frame.ParseHead(data); err == nil {
			c.mu.Lock()
			c.heads = append(c.heads, seen{time.Now(), head.Turn})
			c.mu.Unlock()
		}
		<-event // also when the connection is closed
	}
}

// turn is the last turn that was seen.
func (c *crew) turn() uint64 { return turnAt(c.seen(), time.Now()) }

// seen is a copy of what was seen until now.
func (c *crew) seen() []seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.heads)
}

// turnAt is the last turn that was seen before a moment, 0 when there was none.
func turnAt(heads []seen, t time.Time) (number uint64) {
	for _, h := range heads {
		if h.at.After(t) {
			break
		}
		number = h.turn
	}
	return number
}

// progress waits until n more turns are committed.
func (c *crew) progress(ctx context.Context, n uint64, patience time.Duration) error {
	from := c.turn()
	if err := until(ctx, patience, func() (bool, error) { return c.turn() >= from+n, nil }); err != nil {
		return fmt.Errorf("%d turns after turn %d: %w", n, from, errors.Join(err, c.alive(ctx)))
	}
	return nil
}

// finish ends the input of all agents and waits until they have ended well.
func (c *crew) finish(ctx context.Context) error {
	for _, m := range c.members {
		if err := m.at.ask(ctx, "Hush", m.process(c), &struct{}{}); err != nil {
			return err
		}
	}
	for _, m := range c.members {
		if e, err := c.ended(ctx, m, 100*time.Second); err != nil || !e.Over || e.Code != 0 {
			return errors.Join(err, fmt.Errorf("%s had its last record and ends %+v: %s", m.name, e, c.lastWords(ctx, m)))
		}
	}
	return nil
}

// collect brings the acknowledgement logs and the file to a directory of the lab's.
func (c *crew) collect(ctx context.Context) (file, acks string, err error) {
	acks = filepath.Join(c.l.dir, c.fleet+".acks")
	if err := os.MkdirAll(acks, 0o755); err != nil {
		return "", "", err
	}
	for _, m := range c.members {
		log, err := m.at.read(ctx, m.acks(c))
		if err == nil {
			err = os.WriteFile(filepath.Join(acks, m.name), log, 0o644)
		}
		if err != nil {
			return "", "", err
		}
	}
	data, err := c.l.readVolume(ctx, c.file)
	if err != nil {
		return "", "", err
	}
	file = filepath.Join(c.l.dir, c.file)
	return file, acks, os.WriteFile(file, data, 0o644)
}
