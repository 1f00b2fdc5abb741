package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestACommittedTurnThatCannotBeAcknowledgedIsNoSuccess(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	opts := s.options(fleet.NewLines(strings.NewReader(numbered("line", 3)), 10, 1<<16))
	opts.Acks = ackLog(t, filepath.Join(s.dir, "acks"))
	opts.Acks.Close() // its disk is gone
	agent := fleet.New(opts)
	if err := agent.Run(t.Context()); !errors.Is(err, fleet.ErrUnacknowledged) {
		t.Errorf("Run ended with %v, want ErrUnacknowledged", err)
	}
	if turns, _ := agent.Acknowledged(); turns != 0 {
		t.Errorf("%d turns acknowledged", turns)
	}
	if report := s.verify(); report.Records != 3 {
		t.Errorf("%d records in the file, want 3: it was committed", report.Records)
	}
}

// breaking is a session whose deadline passes just after its connection broke: a request
// is told of the one, the session of the other.
type breaking struct{ fleet.Session }

func (b breaking) Children(context.Context, string) ([]string, error) {
	b.Discard("its deadline passed")
	return nil, fmt.Errorf("%w: read: connection reset", session.ErrBroken)
}

func TestASessionThatEndsWithItsConnectionIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	opts := s.calm(fleet.NewLines(strings.NewReader(numbered("line", 3)), 10, 1<<16))
	dial, dials := opts.Dial, 0
	opts.Dial = func(ctx context.Context) (fleet.Session, error) {
		sess, err := dial(ctx)
		if dials++; err == nil && dials == 1 {
			sess = breaking{sess}
		}
		return sess, err
	}
	if err := fleet.New(opts).Run(t.Context()); err != nil || dials != 2 {
		t.Errorf("Run ended with %v after %d sessions", err, dials)
	}
	s.verify()
}

// idling tells when its agent begins to wait.
type idling struct {
	fleet.Source
	idle chan<- struct{}
}

func (i idling) Wait(ctx context.Context) error {
	i.idle <- struct{}{}
	return i.Source.Wait(ctx)
}

// An agent that has nothing to write is in the fleet all the same.
func TestAnIdleAgentWhoseSessionEndsAsksForAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	input, keep := io.Pipe()
	idle := make(chan struct{}, 9)
	opts := s.options(idling{fleet.NewLines(input, 10, 1<<16), idle})
	dial, sessions := opts.Dial, make(chan fleet.Session, 2)
	opts.Dial = func(ctx context.Context) (fleet.Session, error) {
		sess, err := dial(ctx)
		if err == nil {
			sessions <- sess
		}
		return sess, err
	}
	ended := make(chan error, 1)
	go func() { ended <- fleet.New(opts).Run(t.Context()) }()
	for range 2 {
		select {
		case sess := <-sessions:
			<-idle
			sess.Discard("a test says so")
		case err := <-ended:
			t.Fatalf("Run ended with %v", err)
		case <-time.After(10 * time.Second):
			t.Fatal("it does not ask for another session")
		}
	}
	<-sessions
	if _, err := io.WriteString(keep, "a record\n"); err != nil {
		t.Fatal(err)
	}
	keep.Close()
	if err := <-ended; err != nil {
		t.Errorf("Run ended with %v", err)
	}
	if report := s.verify(); report.Records != 1 {
		t.Errorf("%d records", report.Records)
	}
}
