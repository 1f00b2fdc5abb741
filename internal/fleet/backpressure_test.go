package fleet_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// watched is a session that tells when its agent queues, and with what it commits.
type watched struct {
	fleet.Session
	queueing func(nth int) // before it takes its nth place, from 1; nil: nothing
	places   *atomic.Int64
}

func (w *watched) Create(ctx context.Context, path string, data []byte, flags int32) (string, error) {
	if strings.Contains(path, "/queue-") {
		if nth := int(w.places.Add(1)); w.queueing != nil {
			w.queueing(nth)
		}
	}
	return w.Session.Create(ctx, path, data, flags)
}

// watch has opts count the places that its agent takes by themselves, not with a commit.
func (s *site) watch(opts *fleet.Options, queueing func(nth int)) (places *atomic.Int64) {
	places = &atomic.Int64{}
	dial := opts.Dial
	opts.Dial = func(ctx context.Context) (fleet.Session, error) {
		sess, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return &watched{sess, queueing, places}, nil
	}
	return places
}

// round commits more than 8 MiB, as a large fleet does between two turns of one agent.
func (g *ghost) round() (turns []frame.Turn) {
	g.s.t.Helper()
	long := strings.Repeat("x", frame.MaxRecord-1)
	for range 35 {
		turns = append(turns, g.commit(long, long, long, long[:1<<16-600]))
	}
	return turns
}

// writeAll writes turns behind what the file has, and lets their nodes go.
func (g *ghost) writeAll(turns []frame.Turn) {
	g.s.t.Helper()
	text := g.s.read()
	var nodes []string
	for _, turn := range turns {
		text = append(text, turn.Bytes...)
		nodes = append(nodes, g.s.root.Turn(turn.Incarnation, turn.Number))
	}
	g.s.put(text)
	if err := filelock.DropTurns(g.s.t.Context(), g.sess, nodes); err != nil {
		g.s.t.Fatal(err)
	}
}

// An agent has waited while its fleet committed more than 8 MiB, and wrote it: the file was
// measured before that, and the place is not given up for so old a figure: only when a busy
// machine does not give a new one in time.
func TestRun_aPlaceIsNotGivenUpForAFileThatIsFilled(t *testing.T) {
	t.Parallel()
	s := newSite(t, own(t).Addr())
	s.turns("before", 1)
	others := s.ghost("others")
	others.enrol("") // at work: nobody writes its turns while they are no leftovers
	source := &script{name: "mine", count: 2}
	source.before = func(int) {
		others.writeAll(others.round())
	}
	opts := s.calm(source)
	places := s.watch(&opts, nil)
	agent := s.start(opts)
	s.within(2*time.Minute, "both turns are committed", func() bool { n, _ := source.at(); return n == 2 }) // much is written
	if err := agent.wait(); err != nil {
		t.Fatal(err)
	}
	if report := s.judge(); !report.OK() || report.Turns != 73 {
		t.Errorf("%+v", report)
	}
	given := agent.said.FilterMessageSnippet("filling it before the next turn").All()
	for _, e := range given {
		if e.ContextMap()["not_measured_anew"] == nil {
			t.Error("a place was given up, and the file had been measured anew")
		}
	}
	if n := int(places.Load()); n != 2+len(given) {
		t.Errorf("it took %d places for 2 turns, and gave %d up", n, len(given))
	}
}

// The file truly lags: it is filled first, and then the agent commits, though as much was
// committed again meanwhile; but one turn, and not another before the file is filled again.
func TestRun_whoHasFilledTheFileMayCommitOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, own(t).Addr())
	s.turns("before", 1)
	others := s.ghost("others")
	others.enrol("")
	source := &script{name: "mine", count: 2}
	opts := s.calm(source)
	places := s.watch(&opts, func(nth int) {
		if nth <= 3 { // the fourth comes to a file that is filled
			others.round()
		}
	})
	agent := s.start(opts)
	s.within(2*time.Minute, "both turns are committed", func() bool { n, _ := source.at(); return n == 2 }) // much is written
	if err := agent.wait(); err != nil {
		t.Fatal(err)
	}
	if n := places.Load(); n != 4 { // two for the first turn, two for the second
		t.Errorf("it took %d places for 2 turns", n)
	}
	s.verify()
}

// A volume that hangs when a holder has it measured does not hold up the fleet.
func TestRun_aMeasureThatHangsGivesThePlaceUp(t *testing.T) {
	t.Parallel()
	s := newSite(t, own(t).Addr())
	s.turns("before", 1)
	others := s.ghost("others")
	others.enrol("") // at work: nobody writes its turns while they are no leftovers
	fs := newFaultFS()
	let := func() {}
	source := &script{name: "mine", count: 1}
	source.before = func(int) {
		others.writeAll(others.round())
		let = fs.hang("stat")
	}
	opts := s.on(fs, source)
	places := s.watch(&opts, nil)
	agent := s.start(opts)
	s.until("it has its turn, and the volume hangs", func() bool { return places.Load() == 1 && fs.stuck.Load() > 0 })
	sess := s.onlooker()
	s.until("it has given its place up", func() bool { return len(s.places(sess)) == 0 }) // while it hangs
	let()
	if err := agent.wait(); err != nil {
		t.Fatal(err)
	}
	if report := s.judge(); !report.OK() || report.Turns != 37 {
		t.Errorf("%+v", report)
	}
}
