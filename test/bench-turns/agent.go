package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/lifeline"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/bench-turns/tally"
)

// takeTurns is an agent, as `agent run` makes one, whose disk is slower.
func takeTurns(ctx context.Context, s settings, number int, f *fleetOf) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	file, err := writer.Open(writer.Options{Path: s.File, FS: slowFS{writer.OS{}, f.tally.Sync}})
	if err != nil {
		return err
	}
	// As many as there are must not look for a free name one after the other.
	name := fmt.Sprintf("client-%d", number)
	ticker := &fleet.Ticker{Agent: func() string { return name }, Tuner: f.tuner}
	source := &source{Source: ticker, tally: f.tally, number: number, most: s.Under, bytes: s.Bytes, asked: time.Now(), door: f.door}
	knocked := false
	return fleet.New(fleet.Options{
		Dial: func(ctx context.Context) (fleet.Session, error) {
			if !knocked { // it dials once more when it loses its session
				if err := f.door.knock(ctx); err != nil {
					return nil, err
				}
				knocked = true
			}
			return session.Dial(ctx, session.Options{Servers: strings.Split(s.Servers, ","), Timeout: 10 * time.Second, ConnectTimeout: time.Minute})
		},
		Root: filelock.Root("/turnstile/bench"), Name: name, Host: host, BootID: fleet.BootID(),
		File: file, Lives: lifeline.Dir(s.File + ".alive"), Source: source, Under: s.Under,
		Named: func(string) { source.once.Do(f.door.in) },
	}).Run(ctx)
}

// source is a ticker that counts.
type source struct {
	fleet.Source
	tally        *tally.Tally
	door         *door
	once         sync.Once // it enters
	number       int
	most         int // turns under way
	bytes, taken int

	mu    sync.Mutex
	under []time.Time // since when each turn that is under way was asked for
	asked time.Time   // since when the next is; zero: it is not, for enough are under way
}

// Wait waits for all others, too.
func (s *source) Wait(ctx context.Context) error {
	if err := s.door.wait(ctx); err != nil {
		return err
	}
	return s.Source.Wait(ctx)
}

// Take gives lines of 99 characters, to so many bytes, instead of the ticker's three.
func (s *source) Take(turn uint64) [][]byte {
	if s.bytes == 0 {
		return s.Source.Take(turn)
	}
	s.taken++
	var records [][]byte
	for left := s.bytes; left > 0; left -= 100 {
		line := fmt.Appendf(nil, "client-%d turn %d %s", s.number, s.taken, bytes.Repeat([]byte("x"), 100))
		records = append(records, line[:min(left, 100)-1])
	}
	return records
}

// Committed notes that the next turn is asked for, if there may be another: its place was
// taken with the commit.
func (s *source) Committed() {
	s.mu.Lock()
	s.under = append(s.under, s.asked)
	if s.asked = time.Now(); len(s.under) >= s.most {
		s.asked = time.Time{}
	}
	s.mu.Unlock()
	s.Source.Committed()
}

// Ack counts a turn that is on disk.
func (s *source) Ack() {
	s.Source.Ack()
	s.mu.Lock()
	now, asked := time.Now(), s.under[0]
	if s.under = s.under[1:]; s.asked.IsZero() {
		s.asked = now
	}
	s.mu.Unlock()
	s.tally.Turn(s.number, now.Sub(asked))
}

// slowFS is the real file system with syncs that take longer.
type slowFS struct {
	writer.FS
	slow func(sync func() error) error
}

func (fs slowFS) Open(name string, flag int) (writer.Handle, error) {
	h, err := fs.FS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return slowHandle{h, fs.slow}, nil
}

type slowHandle struct {
	writer.Handle
	slow func(sync func() error) error
}

func (h slowHandle) Datasync() error { return h.slow(h.Handle.Datasync) }
