package audit_test

import (
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/audit"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestTheVerdictFollowsHead(t *testing.T) {
	s := newSite(t)
	a := s.auditor("one", s.Server.Addr)
	if v := s.becomes("a verdict on nothing", func(v audit.Verdict) bool { return v.Verdict == audit.Fine }); v.Turn != 0 {
		t.Errorf("%+v", v)
	}
	for range 3 {
		s.turns(5)
		v := s.becomesFine()
		if v.Records != int64(s.head.Turn) || v.Offset != s.head.Offset || v.Auditor != "one" || v.Token == 0 || v.Since.After(v.At) {
			t.Errorf("%+v", v)
		}
	}
	a.stop()
	if v := a.Last(); v.Verdict != audit.Fine || v.Turn != s.head.Turn {
		t.Errorf("last: %+v", v)
	}
	state, err := audit.Look(recipetest.Background(t), s.Sess, string(s.root))
	if err != nil || state.Auditors != 0 || state.Turn != s.head.Turn {
		t.Errorf("an onlooker sees %+v, %v", state, err)
	}
	s.NothingLeft()
}

func TestWhatIsWrongIsPublishedWithItsPlace(t *testing.T) {
	s := newSite(t)
	s.auditor("one", s.Server.Addr)
	s.turns(5)
	s.becomesFine()
	before := s.head.Offset
	s.write()
	s.flip(s.head.Offset - 3)
	s.commit()
	v := s.becomesFaulty()
	if v.Faults != 1 || v.First == nil || v.First.Kind != verify.Corrupt || v.First.Offset != before || v.Turn != 6 {
		t.Errorf("%+v", v)
	}
	s.flip(s.head.Offset - 3) // somebody put it right
	s.turns(1)
	s.becomesFine()
}

func TestAFileThatIsNotTheSameAnyMoreIsJudgedAnew(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(s *site) error
		want verify.Kind
	}{
		"shorter": {func(s *site) error { return os.Truncate(s.path, s.head.Offset-1) }, verify.Torn},
		"replaced": {func(s *site) error {
			data, err := os.ReadFile(s.path)
			data[s.head.Offset/2] ^= 1
			return errors.Join(err, os.WriteFile(s.path+".new", data, 0o644), os.Rename(s.path+".new", s.path))
		}, verify.Corrupt},
		"head went back": {func(s *site) error { s.head = s.old; return nil }, verify.Mismatch},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.auditor("one", s.Server.Addr)
			s.turns(4)
			s.old = s.head
			s.turns(2)
			s.becomesFine()
			if err := c.do(s); err != nil {
				t.Fatal(err)
			}
			s.commit()
			if v := s.becomesFaulty(); v.First == nil || v.First.Kind != c.want {
				t.Errorf("%+v, %+v", v, v.First)
			}
			_, before := s.verdict()
			s.commit() // and it stays so
			recipetest.Eventually(t, "it was judged again", func() bool { _, n := s.verdict(); return n > before })
			s.becomesFaulty()
		})
	}
}

func TestManyTurnsAreOnePassAndNoneIsNone(t *testing.T) {
	s := newSite(t)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	s.auditor("one", proxy.Addr)
	s.turns(1)
	s.becomesFine()
	_, before := s.verdict()
	begun := time.Now()
	s.turns(60)
	s.becomesFine()
	_, after := s.verdict()
	if most := int32(time.Since(begun)/(200*time.Millisecond)) + 2; after-before > most {
		t.Errorf("60 turns in %v were %d verdicts, want at most %d", time.Since(begun), after-before, most)
	}
	var requests atomic.Int32
	proxy.OnRequest(func(p []byte) bool {
		if zktest.Op(p) != zktest.OpPing {
			requests.Add(1)
		}
		return true
	})
	time.Sleep(700 * time.Millisecond) // an absence has no event: it takes a while to see that nothing happens
	if n := requests.Load(); n > 2 {   // the last pass may have been one behind
		t.Errorf("%d requests while nothing is committed", n)
	}
}

// TestADeposedAuditorWritesNothing removes the auditor's place just before its verdict
// reaches ZooKeeper.
func TestADeposedAuditorWritesNothing(t *testing.T) {
	s := newSite(t)
	s.turns(1)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	s.auditor("one", proxy.Addr)
	old := s.becomesFine()
	recipetest.Eventually(t, "it rests", func() bool { return time.Since(old.At) > 300*time.Millisecond })
	var deposed atomic.Bool
	checked, once := make(chan int32, 1), make(chan struct{}, 1)
	_, before := s.verdict()
	proxy.OnRequest(func(p []byte) bool {
		switch {
		case !deposed.Load() && zktest.IsMulti(p):
			s.Delete(s.Ephemeral()[0])
			deposed.Store(true)
		case deposed.Load() && zktest.Op(p) != zktest.OpPing:
			select { // its next request: the transaction has been answered
			case once <- struct{}{}:
				_, version := s.verdict()
				checked <- version
			default:
			}
		}
		return true
	})
	s.turns(1)
	select {
	case version := <-checked:
		if version != before {
			t.Error("an auditor that was deposed changed the verdict")
		}
	case <-time.After(recipetest.Patience):
		t.Fatal("it never asked again")
	}
	if v := s.becomesFine(); v.Token <= old.Token {
		t.Errorf("the verdict is of token %v, which follows %v", v.Token, old.Token)
	}
}

func TestLostAnswersLoseNoVerdict(t *testing.T) {
	s := newSite(t)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	a := s.auditor("one", proxy.Addr)
	s.turns(1)
	s.becomesFine()
	for range 5 {
		proxy.OnRequest(func(p []byte) bool {
			if zktest.IsMulti(p) {
				proxy.LoseAnswer()
				go proxy.OnRequest(nil)
			}
			return true
		})
		s.turns(1)
		s.becomesFine()
	}
	a.stop()
	s.NothingLeft()
}

func TestTheAuditGoesOnInAnotherSession(t *testing.T) {
	s := newSite(t)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	a := s.auditor("one", proxy.Addr, expires(proxy.Addr, 2*time.Second))
	s.turns(2)
	old := s.becomesFine()
	proxy.Refuse(true)
	s.turns(2)
	recipetest.Eventually(t, "its session expires", func() bool { return len(s.Ephemeral()) == 0 })
	proxy.Refuse(false)
	if v := s.becomesFine(); v.Token <= old.Token {
		t.Errorf("token %v follows %v", v.Token, old.Token)
	}
	a.stop()
	s.NothingLeft()
}

// TestAnAuditorThatIsCutOffIsSucceeded is what happens across machines.
func TestAnAuditorThatIsCutOffIsSucceeded(t *testing.T) {
	fastest := time.Hour
	for range 3 { // a busy machine may be late once
		s := newSite(t)
		proxy := zktest.NewProxy(t, s.Server.Addr)
		s.auditor("one", proxy.Addr, expires(proxy.Addr, 2*time.Second))
		s.turns(2)
		s.becomesFine()
		s.auditor("two", s.Server.Addr)
		recipetest.Eventually(t, "two waits", func() bool { return len(s.Ephemeral()) == 2 })
		proxy.HalfOpen(true)
		since := time.Now()
		s.becomes("two's", func(v audit.Verdict) bool { return v.Auditor == "two" })
		took := time.Since(since)
		t.Logf("cut off, session timeout 2 s: succeeded after %v", took)
		s.turns(1)
		s.becomesFine()
		if fastest = min(fastest, took); fastest <= 3*time.Second {
			return
		}
	}
	t.Errorf("later than the session's timeout and a second, three times; the fastest after %v", fastest)
}

func TestWhoCannotReadTheFileLetsAnotherTry(t *testing.T) {
	s := newSite(t)
	s.turns(2)
	a := s.auditor("blind", s.Server.Addr, func(o *audit.Options) { o.File += "-elsewhere" })
	v := s.becomes("failed", func(v audit.Verdict) bool { return v.Verdict == audit.Failed })
	if v.Auditor != "blind" || v.Error == "" {
		t.Errorf("%+v", v)
	}
	b := s.auditor("seeing", s.Server.Addr)
	s.becomesFine()
	b.stop()
	s.becomes("blind's again", func(v audit.Verdict) bool { return v.Auditor == "blind" })
	if err := os.Link(s.path, s.path+"-elsewhere"); err != nil {
		t.Fatal(err)
	}
	s.becomesFine()
	a.stop()
	s.NothingLeft()
}
