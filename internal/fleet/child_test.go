package fleet_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/lifeline"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

const childEnv = "TURNSTILE_TEST_CHILD"

// TestMain makes the test binary, run again, an agent that does in its turns what it
// is told.
func TestMain(m *testing.M) {
	orders, child := os.LookupEnv(childEnv)
	if !child {
		zktest.Together(m)
	}
	if err := beChild(orders); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

// longTimeout is a session timeout that no test waits for.
const longTimeout = time.Minute

// orders are what a child needs to know.
type orders struct {
	ZooKeeper, Root, Path, Name string
	Acks                        string // the acknowledgement log, empty: none
	Die                         string // the failpoint at which it kills itself; see dieAt
	Stop                        bool   // it stops itself there, and does not die
	At                          int    // the how manieth time that it gets there
	Timeout                     time.Duration
}

func (o orders) options(source fleet.Source) (fleet.Options, error) {
	file, err := writer.Open(writer.Options{Path: o.Path})
	return fleet.Options{
		Dial: func(ctx context.Context) (fleet.Session, error) {
			sess, err := session.Dial(ctx, session.Options{Servers: []string{o.ZooKeeper}, Timeout: o.Timeout, ConnectTimeout: 5 * time.Second})
			if err != nil {
				return nil, err
			}
			return sess, nil
		},
		Root: filelock.Root(o.Root), Name: o.Name, Host: "host", BootID: "boot", Source: source,
		File: file, Lives: lifeline.Dir(o.Path + ".alive"),
	}, err
}

func beChild(text string) error {
	var o orders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	var source fleet.Source = &steered{orders: bufio.NewScanner(os.Stdin), acked: make(chan struct{}, 1)}
	if o.Die != "" {
		source = newFlood(o)
	}
	opts, err := o.options(source)
	if err != nil {
		return err
	}
	if o.Acks != "" {
		if opts.Acks, err = fleet.OpenAckLog(o.Acks); err != nil {
			return err
		}
	}
	if o.Die != "" {
		dieAt(&opts, o)
	}
	opts.Log = zap.Must(zap.NewDevelopmentConfig().Build()) // to stderr
	return fleet.New(opts).Run(context.Background())
}

// steered is a source that says "turn" when it has the turn and all before it is
// acknowledged, and writes then what it is told to. It ends with its orders.
type steered struct {
	orders *bufio.Scanner
	under  bool
	acked  chan struct{}
}

func (s *steered) Wait(context.Context) error { return nil }

func (s *steered) Take(uint64) [][]byte {
	if s.under {
		<-s.acked
		s.under = false
	}
	fmt.Println("turn")
	if !s.orders.Scan() {
		os.Exit(0)
	}
	return [][]byte{[]byte(s.orders.Text())}
}

func (s *steered) With() []any   { return nil }
func (s *steered) Gone(int) bool { return true }
func (s *steered) More() bool    { return true }
func (s *steered) Committed()    { s.under = true }
func (s *steered) Back()         {}
func (s *steered) Ack()          { fmt.Println("acknowledged"); s.acked <- struct{}{} }
