package meeting_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/meeting"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestAllGetWhatAllGive(t *testing.T) {
	s := newStage(t, 3)
	members := []*member{s.comes("a").waits(1), s.comes("b").waits(2), s.comes("c")}
	var groups []*meeting.Group
	for i, m := range members {
		g := m.begins()
		if g.Index != i || g.Name(i) != string(rune('a'+i))+" on host" || len(g.Members) != 3 || g.ID != members[0].begins().ID {
			t.Errorf("%d: %+v", i, g)
		}
		groups = append(groups, g)
	}
	for step := range 20 {
		want := []string{}
		for i := range 3 {
			want = append(want, fmt.Sprintf(`"%d of %d"`, step, i))
		}
		for i, got := range exchange(t, fmt.Sprint(step), groups...) {
			if text := fmt.Sprintf("%s", got); text != fmt.Sprint(want) {
				t.Errorf("step %d: %d got %s", step, i, text)
			}
		}
	}
	for _, g := range groups {
		g.Leave()
	}
	s.clean()
}

// One may be a step ahead of another that has not read its value yet.
func TestASlowMemberMissesNoValue(t *testing.T) {
	s := newStage(t, 2)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	slow := s.comesBy("slow", recipetest.Dial(t, proxy.Addr, 20*time.Second), s.dir, 2).waits(1)
	fast := s.comes("fast").begins()
	slow.begins()
	ahead := make(chan error, 1)
	got := make(chan []json.RawMessage, 2)
	ctx := recipetest.Background(t)
	first := atomic.Bool{}
	started := make(chan struct{})
	proxy.OnRequest(func(p []byte) bool { // its read of the other's value comes late
		if zktest.Op(p) == zktest.OpGetData && first.CompareAndSwap(false, true) {
			close(started)
			recipetest.Eventually(t, "the other is ahead", func() bool {
				for _, node := range s.All() {
					if n, err := s.Sess.Get(ctx, node); err == nil && strings.Contains(string(n.Data), `"step":2`) {
						return true
					}
				}
				return false
			})
		}
		return true
	})
	go func() {
		values, err := slow.group.Exchange(ctx, json.RawMessage(`"s1"`))
		got <- values
		ahead <- err
	}()
	<-started
	if _, err := fast.Exchange(ctx, json.RawMessage(`"f1"`)); err != nil {
		t.Fatal(err)
	}
	second := make(chan error, 1)
	go func() {
		_, err := fast.Exchange(ctx, json.RawMessage(`"f2"`))
		second <- err
	}()
	if err := <-ahead; err != nil {
		t.Fatal(err)
	}
	if values := <-got; fmt.Sprintf("%s", values) != `["s1" "f1"]` {
		t.Errorf("the slow one got %s", values)
	}
	if _, err := slow.group.Exchange(ctx, json.RawMessage(`"s2"`)); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Fatal(err)
	}
}

func TestOneTooManyIsToldWhoIsThere(t *testing.T) {
	s := newStage(t, 2)
	a := s.comes("a").waits(1)
	b := s.comes("b")
	groups := []*meeting.Group{a.begins(), b.begins()}
	told := func(when string) {
		t.Helper()
		late := s.comes("late")
		if err := late.ends(); !errors.Is(err, meeting.ErrBusy) || !strings.Contains(err.Error(), "a on host, b on host") {
			t.Errorf("%s: %v", when, err)
		}
		if left := s.Owned(late.sess); len(left) > 0 {
			t.Errorf("%s, and left %v", when, left)
		}
	}
	told("before the first step")
	exchange(t, "one", groups...)
	told("under way")
	groups[0].Leave()
	late := s.comes("late") // one has left, and its place is not for others
	if err := late.ends(); !errors.Is(err, meeting.ErrBusy) || !strings.Contains(err.Error(), ": b on host") {
		t.Errorf("when one has left: %v", err)
	}
	groups[1].Leave()
	s.clean()
}

func TestDifferentNumbersAreRefused(t *testing.T) {
	s := newStage(t, 2)
	a := s.comes("a").waits(1)
	other := s.comesBy("other", s.Dial(), s.dir, 3)
	if err := other.ends(); !errors.Is(err, meeting.ErrSize) || !strings.Contains(err.Error(), "a on host waits for 2, we for 3") {
		t.Errorf("got %v", err)
	}
	b := s.comes("b") // nothing happened to the first
	groups := []*meeting.Group{a.begins(), b.begins()}
	groups[0].Leave()
	groups[1].Leave()
	s.clean()
}

func TestMeetingsDoNotMix(t *testing.T) {
	s := newStage(t, 2)
	a := s.comes("a").waits(1)
	x := s.comesBy("x", s.Dial(), path.Join(s.Dir, "there"), 2).waits(1)
	b, y := s.comes("b"), s.comesBy("y", s.Dial(), path.Join(s.Dir, "there"), 2)
	for _, m := range []*member{a, b, x, y} {
		g := m.begins()
		if want := map[bool]string{true: "a on host b on host", false: "x on host y on host"}[m == a || m == b]; g.Name(0)+" "+g.Name(1) != want {
			t.Errorf("%s meets %s, want %s", g.Name(0), g.Name(1), want)
		}
	}
}

func TestNobodyComes(t *testing.T) {
	s := newStage(t, 2)
	a := s.comes("a").waits(1)
	why := errors.New("enough")
	a.stop(why)
	if err := a.ends(); !errors.Is(err, why) || !strings.Contains(err.Error(), "1 of 2 were there") {
		t.Errorf("got %v", err)
	}
	s.clean()
}

func TestADeathIsToldToTheOthers(t *testing.T) {
	for name, dies := range map[string]func(*member){
		"leaves": func(m *member) { m.group.Leave() }, "dies": func(m *member) { m.sess.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 2)
			a := s.comes("a").waits(1)
			b := s.comes("b")
			exchange(t, "one", a.begins(), b.begins())
			waiting := make(chan error, 1)
			go func() {
				_, err := a.group.Exchange(recipetest.Background(t), nil)
				waiting <- err
			}()
			dies(b)
			select {
			case err := <-waiting:
				if !errors.Is(err, meeting.ErrGone) || !strings.Contains(err.Error(), "b on host") {
					t.Errorf("got %v", err)
				}
			case <-time.After(recipetest.Patience):
				t.Fatal("it waits for ever")
			}
			a.group.Leave()
			s.clean()
		})
	}
}

// Who waited with one that died meets another.
func TestWhoDiesWhileItWaitsIsNotMet(t *testing.T) {
	s := newStage(t, 3)
	a := s.comes("a").waits(1)
	b := s.comes("b")
	a.waits(2)
	b.sess.Close()
	a.waits(1)
	c, d := s.comes("c"), s.comes("d")
	for _, m := range []*member{a, c, d} {
		if g := m.begins(); g.Name(0) != "a on host" || g.Members[1].Agent == "b" {
			t.Errorf("%+v", g.Members)
		}
	}
}

// The session of who waits is over, or its node removed: it ends.
func TestWhoIsRemovedIsToldSo(t *testing.T) {
	s := newStage(t, 2)
	a := s.comes("a").waits(1)
	s.Delete(s.Owned(a.sess)[0])
	if err := a.ends(); !errors.Is(err, queue.ErrLost) {
		t.Errorf("while it waits: %v", err)
	}
	b := s.comes("b").waits(1)
	c := s.comes("c")
	exchange(t, "one", b.begins(), c.begins())
	s.Delete(s.Owned(b.sess)[0])
	if _, err := b.group.Exchange(recipetest.Background(t), nil); !errors.Is(err, queue.ErrLost) {
		t.Errorf("under way: %v", err)
	}
}

// The answer to each request in turn is lost with the connection.
func TestLostAnswers(t *testing.T) {
	s := newStage(t, 2)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	most := 0
	for lost := 0; lost <= most; lost++ {
		if lost%2 == 0 { // so that the first request makes a member's node, or finds no directory
			if err := queue.EnsurePath(recipetest.Background(t), s.Sess, s.dir); err != nil {
				t.Fatal(err)
			}
		}
		sess := recipetest.Dial(t, proxy.Addr, 20*time.Second)
		seen := atomic.Int32{}
		proxy.OnRequest(func(p []byte) bool {
			if op := zktest.Op(p); op > 0 && op != zktest.OpPing && op != zktest.OpSetWatches && int(seen.Add(1)) == lost+1 {
				proxy.LoseAnswer()
			}
			return true
		})
		a, b := s.comesBy("a", sess, s.dir, 2), s.comes("b")
		groups := []*meeting.Group{a.begins(), b.begins()}
		for step := range 3 {
			for _, got := range exchange(t, fmt.Sprint(step), groups...) {
				if !strings.HasPrefix(string(got[0]), fmt.Sprintf(`"%d of 0`, step)) || !strings.HasPrefix(string(got[1]), fmt.Sprintf(`"%d of 1`, step)) {
					t.Errorf("request %d, step %d: %s", lost+1, step, got)
				}
			}
		}
		groups[0].Leave()
		groups[1].Leave()
		proxy.OnRequest(nil)
		sess.Close()
		b.sess.Close()
		s.clean()
		most = max(most, int(seen.Load()))
	}
	if most < 10 {
		t.Errorf("only %d requests were seen", most)
	}
}

// What a crash of all leaves is in nobody's way.
func TestAfterACrashOfAll(t *testing.T) {
	s := newStage(t, 2)
	a, b := s.comes("a"), s.comes("b")
	exchange(t, "one", a.begins(), b.begins())
	a.sess.Close()
	b.sess.Close()
	c, d := s.comes("c"), s.comes("d")
	exchange(t, "one", c.begins(), d.begins())
	c.group.Leave()
	d.group.Leave()
	s.clean()
}
