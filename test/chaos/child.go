package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/lifeline"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/session"
)

// childVariable carries a child's settings. A child is this program again, and is an
// agent: the production fleet, session, filelock and writer, with failpoints around the
// file system and the session, and a clock that can be set.
const childVariable = "TURNSTILE_CHAOS_CHILD"

type childSettings struct {
	Servers    []string      `json:"servers"`
	Timeout    time.Duration `json:"timeout"`
	Fleet      string        `json:"fleet"`
	Name       string        `json:"name"`
	Data       string        `json:"data"`
	Acks       string        `json:"acks"`
	MaxRecords int           `json:"max_records"`
	Disk       string        `json:"disk"`
	Lifeline   bool          `json:"lifeline"`
	Armed      []failpoint   `json:"armed"`
}

// order is a line from the harness to a child.
type order struct {
	Do    string        `json:"do"` // arm, go, clock
	Armed []failpoint   `json:"armed,omitempty"`
	Clock time.Duration `json:"clock,omitempty"`
}

// The exit codes, as the README lists them.
const (
	exitFine    = 0
	exitFailed  = 1
	exitRefused = 6
)

// runChild is a child's main.
func runChild(settings string) int {
	var c childSettings
	if err := json.Unmarshal([]byte(settings), &c); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return exitFailed
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	err := beAgent(ctx, c)
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
	}
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, writer.ErrRefused):
		return exitRefused
	}
	return exitFailed
}

func beAgent(ctx context.Context, c childSettings) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	acks, err := fleet.OpenAckLog(c.Acks)
	if err != nil {
		return err
	}
	defer acks.Close()
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), os.Stderr, zap.InfoLevel))
	log.Info("chaos: armed", zap.Any("points", c.Armed))
	points := &failpoints{out: os.NewFile(4, "events"), goOn: make(chan struct{}, 1), armed: c.Armed}
	fs := &failFS{FS: writer.OS{}, points: points}
	if c.Disk != "" {
		fs.disk = &disk{volume: filepath.Dir(c.Data), dir: c.Disk}
	}
	var clock atomic.Int64
	go obey(points, &clock) // ends with the process
	lines := fleet.NewLines(os.Stdin, c.MaxRecords, frame.MaxRecord+1)
	defer lines.Stop()
	file, err := writer.Open(writer.Options{Path: c.Data, FS: fs})
	if err != nil {
		return err
	}
	opts := fleet.Options{
		Dial: func(ctx context.Context) (fleet.Session, error) {
			sess, err := session.Dial(ctx, session.Options{
				Servers: c.Servers, Timeout: c.Timeout, ConnectTimeout: 30 * time.Second, Log: log,
			})
			if err != nil {
				return nil, err
			}
			return &failSession{Session: sess, points: points}, nil
		},
		Root: filelock.Root("/turnstile/" + c.Fleet), Name: c.Name, Host: host, BootID: fleet.BootID(),
		File: file, Source: lines, Acks: acks, Log: log,
		Now: func() time.Time { return time.Now().Add(time.Duration(clock.Load())) },
	}
	if c.Lifeline {
		opts.Lives = lifeline.Dir(c.Data + ".alive")
	}
	if err := fleet.New(opts).Run(ctx); err != nil {
		return err
	}
	if n := lines.Pending(); n > 0 {
		return fmt.Errorf("%d records were read and not acknowledged", n)
	}
	return nil
}

// obey does what the harness says, and says that it is done.
func obey(points *failpoints, clock *atomic.Int64) {
	in := bufio.NewScanner(os.NewFile(3, "orders"))
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var o order
		points.must(json.Unmarshal(in.Bytes(), &o))
		switch o.Do {
		case "arm":
			points.arm(o.Armed)
		case "clock":
			clock.Store(int64(o.Clock))
		case "go":
			points.goOn <- struct{}{}
		}
		points.tell(event{Event: o.Do})
	}
}
