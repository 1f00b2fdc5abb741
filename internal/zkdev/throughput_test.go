package zkdev

import (
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var throughputTime = flag.Duration("zkdev.throughput", 0, "how long TestThroughputBesideTheRealServer measures each; 0 skips it")

// workloads are what throughput is measured with: one call is one operation.
var workloads = []struct {
	name string
	op   Opcode
	body func(base string) func(*encoder)
}{
	{"getData", OpGetData, func(base string) func(*encoder) { return watchBody(base, false) }},
	{"setData", OpSetData, func(base string) func(*encoder) { return setDataBody(base, "0123456789", -1) }},
	{"create", OpCreate, func(base string) func(*encoder) { return createBody(base+"/n-", "", flagEphemeralSequential) }},
	{"turn's multi", OpMulti, func(base string) func(*encoder) {
		return multiBody(
			subOp{OpSetData, setDataBody(base, "0123456789", -1)},
			subOp{OpCreate, createBody(base+"/q-", "", 0)},
			subOp{OpDelete, versionBody(base+"/q-", -1)},
			subOp{OpCreate, createBody(base+"/n-", "", flagEphemeralSequential)})
	}},
}

const throughputClients = 8

// operationsPerSecond has some clients send one request at a time each.
func operationsPerSecond(t testing.TB, addr string, op Opcode, body func(string) func(*encoder), d time.Duration) float64 {
	var done atomic.Int64
	var clients sync.WaitGroup
	began := time.Now()
	for range throughputClients {
		c := dialRaw(t, addr, longSession)
		put := body(newBase(t, c))
		clients.Go(func() {
			for time.Since(began) < d {
				if r := c.call(op, put); r.code != errOK {
					t.Errorf("%v: %d", op, r.code)
				}
				done.Add(1)
			}
			c.call(OpCloseSession, nil)
		})
	}
	clients.Wait()
	return float64(done.Load()) / time.Since(began).Seconds()
}

// TestThroughputBesideTheRealServer prints both servers' operations a second.
func TestThroughputBesideTheRealServer(t *testing.T) {
	if *throughputTime == 0 {
		t.Skip("set -zkdev.throughput=3s")
	}
	realAddr, dev := realServer(t), RunT(t)
	table := fmt.Sprintf("%-14s %12s %12s %8s\n", "op/s", "zkdev", "real", "ratio")
	for _, w := range workloads {
		operationsPerSecond(t, realAddr, w.op, w.body, *throughputTime) // let the JVM warm up
		real := operationsPerSecond(t, realAddr, w.op, w.body, *throughputTime)
		ours := operationsPerSecond(t, dev.Addr(), w.op, w.body, *throughputTime)
		table += fmt.Sprintf("%-14s %12.0f %12.0f %8.2f\n", w.name, ours, real, ours/real)
	}
	t.Logf("%d clients, one request at a time each:\n%s", throughputClients, table)
}

func BenchmarkServer(b *testing.B) {
	for _, w := range workloads {
		b.Run(w.name, func(b *testing.B) {
			c := dialRaw(b, RunT(b).Addr(), longSession)
			put := w.body(newBase(b, c))
			b.ReportAllocs()
			for b.Loop() {
				c.call(w.op, put)
			}
		})
	}
}
