package fleet_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// BenchmarkTurns compares durable turns a second, every client waiting for its next
// turn all the time, with the client library's own Lock around an append and an
// fdatasync. Rounds are interleaved and the ratio of the totals is reported:
//
//	go test -run '^$' -bench Turns -benchtime 2000x ./internal/fleet
func BenchmarkTurns(b *testing.B) {
	servers := zktest.Shared(b)
	for _, clients := range []int{3, 10} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			const rounds = 3
			var ours, theirs time.Duration
			each := max(1, b.N/clients)
			for range rounds {
				ours += turnstileTurns(b, servers, clients, each)
				theirs += libraryTurns(b, servers, clients, each)
			}
			turns := float64(rounds * each * clients)
			b.ReportMetric(turns/ours.Seconds(), "turnstile-turns/s")
			b.ReportMetric(turns/theirs.Seconds(), "zk.Lock-turns/s")
			b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func turnstileTurns(b *testing.B, servers string, clients, each int) time.Duration {
	s := newSite(b, servers)
	var group, arrived sync.WaitGroup
	arrived.Add(clients)
	start := make(chan struct{})
	for i := range clients {
		ticker := fleet.Ticker{Agent: func() string { return "x" }, Lines: 1, Turns: each}
		opts := s.options(&gated{Ticker: ticker, arrived: &arrived, gate: start})
		opts.Name, opts.Log = fmt.Sprintf("bench-%d", i), zap.NewNop()
		group.Go(func() {
			if err := fleet.New(opts).Run(b.Context()); err != nil {
				b.Error(err)
			}
		})
	}
	arrived.Wait()
	began := time.Now()
	close(start)
	group.Wait()
	return time.Since(began)
}

// gated is a ticker that begins when all are in the fleet: sessions are not counted
// for the library either.
type gated struct {
	fleet.Ticker
	arrived *sync.WaitGroup
	gate    <-chan struct{}
	once    sync.Once
}

func (g *gated) Wait(ctx context.Context) error {
	g.once.Do(g.arrived.Done)
	<-g.gate
	return g.Ticker.Wait(ctx)
}

func libraryTurns(b *testing.B, servers string, clients, each int) time.Duration {
	dir := b.TempDir()
	root := zktest.Root(b)
	conns := make([]*zk.Conn, clients)
	for i := range conns {
		conn, _, err := zk.Connect(strings.Split(servers, ","), 6*time.Second, zk.WithLogInfo(false))
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		if _, _, err := conn.Exists("/"); err != nil {
			b.Fatal(err)
		}
		conns[i] = conn
	}
	began := time.Now()
	var group sync.WaitGroup
	for _, conn := range conns {
		group.Go(func() {
			lock := zk.NewLock(conn, root+"-lock", zk.WorldACL(zk.PermAll))
			file, err := os.OpenFile(filepath.Join(dir, "data.txt"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
			if err != nil {
				b.Error(err)
				return
			}
			defer file.Close()
			for n := range each {
				if err := lock.Lock(); err != nil {
					b.Error(err)
					return
				}
				_, err := fmt.Fprintf(file, "%s  x  turn %d  line 1 of 1\n", time.Now().Format(time.RFC3339Nano), n)
				if err == nil {
					err = unix.Fdatasync(int(file.Fd()))
				}
				if err == nil {
					err = lock.Unlock()
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	return time.Since(began)
}
