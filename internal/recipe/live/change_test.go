package live_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/recipe/live"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestChangesAreCountedAndUnset(t *testing.T) {
	s := recipetest.NewStage(t)
	for i, c := range []struct {
		pairs []string
		want  string
	}{
		{[]string{"n", "1", "text", "a b", "on", "true"}, "n=1 on=true text=a b"},
		{[]string{"n", "", "on", "false"}, "on=false text=a b"},
		{[]string{"n", "007"}, "n=007 on=false text=a b"},
		{[]string{"n", "", "on", "", "text", ""}, ""},
	} {
		if v := mustStore(t, set(s.Dir, c.pairs...), s.Sess); v != int32(i+1) {
			t.Errorf("version %d, want %d", v, i+1)
		}
		v := value(t, s.Sess, s.Dir)
		if v.Settings.String() != c.want || v.Version != int32(i+1) || v.Damaged != nil || !v.Exists {
			t.Errorf("got %+v, want %s", v, c.want)
		}
		if time.Since(v.At).Abs() > time.Minute {
			t.Errorf("at %v", v.At)
		}
	}
	s.NothingLeft()
}

func TestWhatIsRefusedIsNeverStored(t *testing.T) {
	s := recipetest.NewStage(t)
	mustStore(t, set(s.Dir, "n", "1"), s.Sess)
	for _, pairs := range [][]string{{"n", "x"}, {"text", "fine", "n", "1.5"}, {"m", "1"}, {"changes", "1"}} {
		_, err := set(s.Dir, pairs...).Store(recipetest.Background(t), s.Sess)
		if !errors.As(err, new(*live.Refused)) {
			t.Errorf("%v: %v", pairs, err)
		}
	}
	_, err := set(s.Dir, "m", "1").Store(recipetest.Background(t), s.Sess)
	if want := `there is no key "m"; the keys are n, text, on`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if v := value(t, s.Sess, s.Dir); v.Version != 1 || v.Settings["n"] != "1" {
		t.Errorf("stored all the same: %+v", v)
	}
}

func TestEachChangeHappensOnceThoughAnswersAreLost(t *testing.T) {
	s := recipetest.NewStage(t)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	for lost := range 12 { // of each request in turn
		sess := recipetest.Dial(t, proxy.Addr, long)
		seen := atomic.Int32{}
		proxy.OnRequest(func(p []byte) bool {
			if op := zktest.Op(p); op > 0 && op != zktest.OpPing && op != zktest.OpSetWatches && int(seen.Add(1)) == lost+1 {
				proxy.LoseAnswer()
			}
			return true
		})
		version := mustStore(t, more(s.Dir), sess)
		proxy.OnRequest(nil)
		v := value(t, s.Sess, s.Dir)
		if n := fmt.Sprint(lost + 1); v.Settings["n"] != n || v.Version != version || version != int32(lost+1) {
			t.Fatalf("the answer to request %d was lost: n=%s at version %d, told %d, want %s", lost+1, v.Settings["n"], v.Version, version, n)
		}
		sess.Close()
	}
	s.NothingLeft()
}

func TestManyChangeAtOnceAndEachCounts(t *testing.T) {
	s := recipetest.NewStage(t)
	const people, each = 8, 10
	proxy := zktest.NewProxy(t, s.Server.Addr)
	versions := make(chan int32, people*each)
	var sessions []*session.Session
	for range people {
		sessions = append(sessions, recipetest.Dial(t, proxy.Addr, long))
	}
	// In rounds: while one is being connected again, the others must not store more changes
	// than the node names, or what became of its own could not be known.
	for i := range each {
		var all sync.WaitGroup
		for _, sess := range sessions {
			all.Go(func() {
				if i == each/2 {
					proxy.LoseAnswer()
				}
				version, err := more(s.Dir).Store(recipetest.Background(t), sess)
				if err != nil {
					t.Error(err)
				}
				versions <- version
			})
		}
		all.Wait()
	}
	close(versions)
	if v := value(t, s.Sess, s.Dir); v.Settings["n"] != fmt.Sprint(people*each) || v.Version != people*each {
		t.Errorf("n=%s at version %d, want %d", v.Settings["n"], v.Version, people*each)
	}
	told := map[int32]bool{}
	for version := range versions {
		if told[version] {
			t.Errorf("two were told version %d", version)
		}
		told[version] = true
	}
}

// lostSet stores n=1 and loses the answer, with the connection; then what meanwhile does
// comes first.
func lostSet(t *testing.T, meanwhile func(*recipetest.Stage)) (*live.Change, *recipetest.Stage, int32, error) {
	s := recipetest.NewStage(t)
	mustStore(t, set(s.Dir, "n", "0"), s.Sess)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	sess := recipetest.Dial(t, proxy.Addr, long)
	var lose, others sync.Once
	const opSetData = 5
	proxy.OnRequest(func(p []byte) bool {
		if zktest.Op(p) == opSetData {
			lose.Do(func() {
				proxy.Refuse(false)
				proxy.LoseAnswer()
				// What the connection's loss lets the change do waits for us, however
				// often it connects.
				proxy.OnRequest(func(p []byte) bool {
					if zktest.Op(p) == zktest.OpConnect {
						others.Do(func() { meanwhile(s) })
					}
					return true
				})
			})
		}
		return true
	})
	change := more(s.Dir)
	version, err := change.Store(recipetest.Background(t), sess)
	return change, s, version, err
}

func TestALostChangeIsFoundBeneathLaterOnes(t *testing.T) {
	_, s, version, err := lostSet(t, func(s *recipetest.Stage) {
		for range 5 {
			mustStore(t, more(s.Dir), s.Sess)
		}
	})
	if err != nil || version != 2 {
		t.Errorf("version %d, %v; want 2", version, err)
	}
	if v := value(t, s.Sess, s.Dir); v.Settings["n"] != "6" {
		t.Errorf("n=%s, want 6", v.Settings["n"])
	}
}

func TestWhatCannotBeKnownIsSaid(t *testing.T) {
	for name, meanwhile := range map[string]func(*recipetest.Stage){
		"replaced by hand": func(s *recipetest.Stage) {
			if _, err := s.Sess.Set(recipetest.Background(t), s.Dir, []byte(`{"n":7}`), -1); err != nil {
				t.Error(err)
			}
		},
		"deleted": func(s *recipetest.Stage) { s.Delete(s.Dir) },
		"made anew": func(s *recipetest.Stage) {
			s.Delete(s.Dir)
			mustStore(t, set(s.Dir, "n", "7"), s.Sess)
		},
		"beneath too many": func(s *recipetest.Stage) {
			for range 20 {
				mustStore(t, set(s.Dir, "n", "7"), s.Sess)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			change, s, _, err := lostSet(t, meanwhile)
			if !errors.Is(err, live.ErrUnknown) || !change.Unsettled() {
				t.Errorf("%v, want ErrUnknown", err)
			}
			if v := value(t, s.Sess, s.Dir); v.Settings["n"] != "7" && v.Settings["n"] != "" {
				t.Errorf("it was applied again: n=%s", v.Settings["n"])
			}
		})
	}
}

func TestAChangeGoesOnInAnotherSession(t *testing.T) {
	s := recipetest.NewStage(t)
	mustStore(t, set(s.Dir, "n", "0"), s.Sess)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	sess := recipetest.Dial(t, proxy.Addr, 4*time.Second)
	proxy.OnRequest(func(p []byte) bool {
		if zktest.Op(p) == 5 {
			proxy.Silence(true)
		}
		return true
	})
	change := more(s.Dir)
	_, err := change.Store(recipetest.Background(t), sess)
	if !errors.Is(err, live.ErrUnknown) || !errors.Is(err, session.ErrExpired) {
		t.Fatalf("%v, want ErrUnknown for the session's end", err)
	}
	mustStore(t, more(s.Dir), s.Sess) // by another, in between
	if version := mustStore(t, change, s.Sess); version != 2 {
		t.Errorf("version %d, want 2", version)
	}
	if v := value(t, s.Sess, s.Dir); v.Settings["n"] != "2" {
		t.Errorf("n=%s, want 2", v.Settings["n"])
	}
}

func TestALateWriteIsNotRepeated(t *testing.T) {
	server := &fake{node: live.Snapshot{Data: []byte(`{"n":1}`)}}
	change := more("/it")
	version, err := change.Store(recipetest.Background(t), server)
	if err != nil || version != 1 || !strings.Contains(string(server.node.Data), `"n":2`) {
		t.Errorf("version %d, %v; the node is %s", version, err, server.node.Data)
	}
}

func TestAConflictIsTheEditsToFind(t *testing.T) {
	s := recipetest.NewStage(t)
	mustStore(t, set(s.Dir, "n", "1"), s.Sess)
	before := value(t, s.Sess, s.Dir)
	replace := &live.Change{Node: s.Dir, Schema: schema, Edit: func(now live.Value) (live.Settings, error) {
		if !now.Same(before) {
			return nil, live.ErrConflict
		}
		return live.Settings{"n": "3"}, nil
	}}
	mustStore(t, set(s.Dir, "n", "2"), s.Sess)
	if _, err := replace.Store(recipetest.Background(t), s.Sess); !errors.Is(err, live.ErrConflict) {
		t.Errorf("%v, want ErrConflict", err)
	}
	before = value(t, s.Sess, s.Dir)
	if version := mustStore(t, replace, s.Sess); version != 3 {
		t.Errorf("version %d, want 3", version)
	}
}
