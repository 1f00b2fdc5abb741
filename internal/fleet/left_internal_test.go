package fleet

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/verify"
)

// wellSession is a session that never breaks.
type wellSession struct{ Session }

func (wellSession) Err() error             { return nil }
func (wellSession) Connected() bool        { return true }
func (wellSession) Connections() uint64    { return 1 }
func (wellSession) Timeout() time.Duration { return 4 * time.Second }

// counting is a source that counts what is acknowledged.
type counting struct {
	Source
	acked int
}

func (c *counting) Ack() { c.acked++ }

// gatedAcks is a log's file whose disk hangs while a sync waits at the gate.
type gatedAcks struct {
	*os.File
	gate chan struct{}
}

func (g gatedAcks) Datasync() error { <-g.gate; return nil }

// aScribe is a scribe with so many turns of a record each that are on disk, whose log is
// at path.
func aScribe(t *testing.T, path string, turns int) (*scribe, *counting) {
	t.Helper()
	log, err := OpenAckLog(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	source := &counting{}
	a := &Agent{Options: Options{Acks: log, Source: source, Log: zap.NewNop()}, run: uuid.New(), bound: mostBound}
	s := newScribe(a)
	s.session, s.name = wellSession{}, "agent-1"
	head := frame.Begin(frame.Incarnation{ID: uuid.New(), From: 1}, 0, nil, s.name, time.Unix(1, 0))
	for n := range turns {
		h := frame.Header{Agent: s.name, Token: frame.Token(n + 1), At: time.Unix(2, 0)}
		turn := head.Next(h, a.run, [][]byte{[]byte("a record")})
		s.under = append(s.under, &entry{Turn: turn, session: s.session, connection: 1, written: true, durable: true})
		head = head.After(turn.Header, len(turn.Bytes))
	}
	return s, source
}

// wantEachOnce makes sure that a log of so many turns is one that can be read, and says of
// each turn that it is acknowledged or that it is pending.
func wantEachOnce(t *testing.T, path string, turns int) (acked int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	said := map[uint64]int{}
	for line := range strings.Lines(string(text)) {
		b := []byte(strings.TrimSuffix(line, "\n"))
		if ack, err := frame.ParseAck(b); err == nil {
			said[ack.Turn]++
			acked++
		} else if p, err := frame.ParsePending(b); err == nil {
			said[p.Turn]++
		}
	}
	for n := range turns {
		if said[uint64(n+1)] != 1 {
			t.Errorf("turn %d is told of %d times in\n%s", n+1, said[uint64(n+1)], text)
		}
	}
	report, err := verify.Reader(t.Context(), strings.NewReader(""), 0, verify.Options{Acks: []string{path}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		if f.Kind == verify.Corrupt || f.Kind == verify.Duplicated || f.Kind == verify.Reordered {
			t.Errorf("%s: %s\n%s", f.Kind, f.Text, text)
		}
	}
	return acked
}

// What is left is counted while a turn is being acknowledged: it is waited for, and is not
// noted as pending too; and nothing is acknowledged afterwards.
func TestLeave_waitsForTheAcknowledgementUnderWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acks")
	synctest.Test(t, func(t *testing.T) {
		s, source := aScribe(t, path, 3)
		gate := make(chan struct{}, 2)
		s.Acks.file = gatedAcks{s.Acks.file.(ackOnDisk).File, gate}
		ended := make(chan error, 1)
		go func() { ended <- s.acknowledge(context.Background()) }()
		synctest.Wait() // the first is in the log, and not yet on disk
		left := make(chan int, 1)
		go func() { turns, _ := s.leave(); left <- turns }()
		synctest.Wait()
		gate <- struct{}{}
		gate <- struct{}{} // what is pending
		turns, err := <-left, <-ended
		if turns != 2 || err != nil || source.acked != 1 {
			t.Errorf("%d turns are left, %d are acknowledged, %v; want 2 and 1", turns, source.acked, err)
		}
		close(gate)
		if err := s.acknowledge(context.Background()); err != nil || source.acked != 1 {
			t.Errorf("acknowledged after what is left was counted: %d, %v", source.acked, err)
		}
		if acked := wantEachOnce(t, path, 3); acked != 1 {
			t.Errorf("%d are acknowledged in the log, want 1", acked)
		}
	})
}

// The log's disk hangs: that keeps nobody from ending, and what comes of the write that
// hung is not acknowledged any more.
func TestLeave_isNotHeldUpByALogThatHangs(t *testing.T) {
	for name, acknowledging := range map[string]bool{"in an acknowledgement": true, "in the note": false} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "acks")
			synctest.Test(t, func(t *testing.T) {
				s, source := aScribe(t, path, 3)
				gate := make(chan struct{})
				s.Acks.file = gatedAcks{s.Acks.file.(ackOnDisk).File, gate}
				ended := make(chan error, 1)
				if acknowledging {
					go func() { ended <- s.acknowledge(context.Background()) }()
					synctest.Wait()
				} else {
					ended <- nil
				}
				began := time.Now()
				if turns, records := s.leave(); turns != 3 || records != 3 {
					t.Errorf("%d records in %d turns are left", records, turns)
				}
				if took := time.Since(began); took != s.limit() {
					t.Errorf("it took %v", took)
				}
				close(gate)
				if err := <-ended; err != nil || source.acked != 0 {
					t.Errorf("%d are acknowledged, though all were counted as left, %v", source.acked, err)
				}
				synctest.Wait()
				text, err := os.ReadFile(path)
				if err != nil || acknowledging == strings.Contains(string(text), "#pending") {
					t.Errorf("the log says %q, %v", text, err)
				}
			})
		})
	}
}

// Once it says what is pending, a log acknowledges nothing, whoever asks.
func TestAckLog_pendIsItsLastWord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acks")
	log, err := OpenAckLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	run := frame.AckRun{Agent: "agent-1", Incarnation: uuid.New()}
	if err := log.Pend([]Left{{run, frame.Pending{Turn: 1}}}); err != nil {
		t.Fatal(err)
	}
	if err := log.Write(run, 1, [][]byte{[]byte("a record")}); !errors.Is(err, errAcksEnded) {
		t.Errorf("acknowledged: %v", err)
	}
	wantEachOnce(t, path, 1)
}

// Of turns with one number only the one that was synced is on disk.
func TestDurable_isOfOneIncarnation(t *testing.T) {
	s, _ := aScribe(t, filepath.Join(t.TempDir(), "acks"), 1)
	mine := s.under[0]
	mine.durable = false
	other := mine.Turn
	other.Incarnation = uuid.New()
	s.unsynced = []frame.Turn{other, mine.Turn}
	s.durable(1)
	if mine.durable {
		t.Error("a turn counts as on disk because one of another incarnation is")
	}
	s.durable(1)
	if !mine.durable {
		t.Error("a turn that was synced does not count as on disk")
	}
}

// A turn that was committed before an adoption, and is settled after it, is nothing that
// follows the head that we know.
func TestAdd_aTurnOfAnotherIncarnationIsNoHead(t *testing.T) {
	s, _ := aScribe(t, filepath.Join(t.TempDir(), "acks"), 1)
	adopted := frame.Begin(frame.Incarnation{ID: uuid.New(), From: 1}, 0, nil, "agent-2", time.Unix(3, 0))
	s.head = adopted
	late := s.under[0].Turn
	if late.Number <= adopted.Turn {
		t.Fatalf("the turn %d is not later than %d", late.Number, adopted.Turn)
	}
	s.add(late, 1)
	if _, head := s.seen(); head != adopted {
		t.Errorf("head is %+v, want %+v", head, adopted)
	}
}
