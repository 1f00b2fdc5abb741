// Command etcd-mutex SERVER FILE NUMBER is a client of bench-turns: it takes turns at FILE
// under etcd's concurrency.Mutex, and appends three lines and syncs them in each.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/test/bench-turns/tally"
)

func main() {
	if len(os.Args) != 4 {
		fail(fmt.Errorf("usage: etcd-mutex SERVER FILE NUMBER"))
	}
	number, err := strconv.Atoi(os.Args[3])
	if err != nil {
		fail(err)
	}
	t := tally.New(os.Stdout, number, 1, version())
	ended := make(chan error, 2)
	go func() { ended <- takeTurns(context.Background(), os.Args[1], os.Args[2], number, t) }()
	go func() { ended <- t.Obey(os.Stdin) }()
	if err := <-ended; err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "etcd-mutex:", err)
	os.Exit(1)
}

func takeTurns(ctx context.Context, server, path string, number int, t *tally.Tally) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	session, err := concurrency.NewSession(client, concurrency.WithTTL(10), concurrency.WithContext(ctx))
	if err != nil {
		return err
	}
	mutex := concurrency.NewMutex(session, "/lock")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	t.Here()
	<-t.Going()
	for n := 1; ; n++ {
		asked := time.Now()
		if err := mutex.Lock(ctx); err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		if _, err := file.Write(tally.Lines(number, n)); err != nil {
			return err
		}
		if err := t.Sync(func() error { return unix.Fdatasync(int(file.Fd())) }); err != nil {
			return err
		}
		waited := time.Since(asked)
		if err := mutex.Unlock(ctx); err != nil {
			return fmt.Errorf("unlock: %w", err)
		}
		t.Turn(number, waited)
	}
}

func version() string {
	const path = "go.etcd.io/etcd/client/v3"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return path + " " + m.Version + ", " + runtime.Version()
			}
		}
	}
	return path + " of unknown version"
}
