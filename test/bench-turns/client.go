package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/test/bench-turns/tally"
)

// settings are those of a process with one client or with many.
type settings struct {
	Servers string        `json:"servers"` // separated by commas
	Side    string        `json:"side"`
	Under   int           `json:"under"`
	File    string        `json:"file"`
	First   int           `json:"first"`   // the number of its first client
	Clients int           `json:"clients"` // as goroutines, each with a session of its own
	Bytes   int           `json:"bytes"`   // a turn; 0: three short lines
	Sync    time.Duration `json:"sync"`    // what is added to a sync, of a stream
	Profile string        `json:"profile"`
}

// beClient is a client's main.
func beClient(text string) error {
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	take, version := takeTurns, runtime.Version()
	switch s.Side {
	case "stdin":
		return takeStream(ctx, s)
	case "lock-stdin":
		return takeLockedStream(ctx, s)
	case "go-zookeeper":
		take, version = takeLocks, "go-zookeeper "+moduleVersion("github.com/go-zookeeper/zk")+", "+version
	default:
		runtime.GOMAXPROCS(1) // as `agent run` does
	}
	f := &fleetOf{tuner: fleet.NewTuner(fleet.Tuning{Lines: 3})}
	if f.tally = tally.New(os.Stdout, s.First, 1, version); s.Clients > 1 {
		f.tally = tally.New(os.Stdout, 0, 0, version) // of many some wait for long
	}
	f.door = newDoor(f.tally, s.Clients)
	f.tally.Profile = s.Profile
	if s.Under > 0 {
		f.tally.Pace = func(d time.Duration) { f.tuner.Set(fleet.Tuning{Lines: 3, Pace: d}) }
	}
	ended := make(chan error, s.Clients+1)
	for n := range s.Clients {
		go func() {
			number := s.First + n
			ended <- fmt.Errorf("client %d ended: %w", number, take(ctx, s, number, f))
		}()
	}
	go func() { ended <- f.tally.Obey(os.Stdin) }()
	return <-ended
}

// fleetOf is what the clients of a process share.
type fleetOf struct {
	tally *tally.Tally
	door  *door
	tuner *fleet.Tuner
}

// moduleVersion is the version of a library in this program.
func moduleVersion(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	return "of unknown version"
}

// takeLocks appends three lines under go-zookeeper's Lock, and syncs them, again and again.
func takeLocks(ctx context.Context, s settings, number int, f *fleetOf) error {
	if err := f.door.knock(ctx); err != nil {
		return err
	}
	conn, events, err := zk.Connect(strings.Split(s.Servers, ","), 10*time.Second, zk.WithLogInfo(false))
	if err != nil {
		return err
	}
	defer conn.Close()
	for e := range events {
		if e.State == zk.StateHasSession {
			break
		}
	}
	f.door.in()
	if err := f.door.wait(ctx); err != nil {
		return err
	}
	lock := zk.NewLock(conn, "/lock", zk.WorldACL(zk.PermAll))
	file, err := os.OpenFile(s.File, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	for n := 1; ctx.Err() == nil; n++ {
		asked := time.Now()
		if err := lock.Lock(); err != nil {
			return err
		}
		if _, err := file.Write(tally.Lines(number, n)); err != nil {
			return err
		}
		if err := f.tally.Sync(func() error { return unix.Fdatasync(int(file.Fd())) }); err != nil {
			return err
		}
		waited := time.Since(asked)
		if err := lock.Unlock(); err != nil {
			return err
		}
		f.tally.Turn(number, waited)
	}
	return context.Cause(ctx)
}
