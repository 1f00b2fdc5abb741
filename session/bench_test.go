package session_test

import (
	"context"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sys/unix"
)

// each gives the time that a request takes, on the wall and of the processor.
func each(b *testing.B, request func() error) (took, used float64) {
	b.ReportAllocs()
	start, before := time.Now(), processor(b)
	for b.Loop() {
		if err := request(); err != nil {
			b.Fatal(err)
		}
	}
	took, used = float64(time.Since(start))/float64(b.N), float64(processor(b)-before)/float64(b.N)
	b.ReportMetric(used, "cpu-ns/op")
	return took, used
}

// processor is the time that this process has used, the server's among it. Unlike the time
// on the wall it does not depend on what else runs here.
func processor(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// What a request costs whose context may end, one whose context never does, and what the
// library takes of it.
func BenchmarkGet(b *testing.B) {
	sess := dial(b, 20*time.Second, shared(b))
	path := node(b, sess, "a")
	create(b, sess, path, 0)
	may, cancel := context.WithCancel(context.Background())
	defer cancel()
	conn, events, err := zk.Connect([]string{shared(b)}, 20*time.Second, zk.WithLogInfo(false))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	for e := range events {
		if e.State == zk.StateHasSession {
			break
		}
	}
	get := func(ctx context.Context) func() error {
		return func() error { _, err := sess.Get(ctx, path); return err }
	}
	var took, used [3]float64 // the best of several rounds, for others use this machine too
	requests := []func() error{
		get(may), get(context.WithoutCancel(may)), func() error { _, _, err := conn.Get(path); return err },
	}
	for range 10 {
		for i, name := range []string{"may end", "never ends", "library"} {
			b.Run(name, func(b *testing.B) {
				wall, processor := each(b, requests[i])
				if took[i] == 0 || wall < took[i] {
					took[i] = wall
				}
				if used[i] == 0 || processor < used[i] {
					used[i] = processor
				}
			})
		}
	}
	b.Run("times the library", func(b *testing.B) {
		b.ReportMetric(0, "ns/op")
		for i, what := range []string{"may", "never"} {
			b.ReportMetric(took[i]/took[2], what)
			b.ReportMetric(used[i]/used[2], what+"-cpu")
		}
	})
}
