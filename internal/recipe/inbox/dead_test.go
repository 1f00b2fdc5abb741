package inbox_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/recipe/inbox"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestAMessageThatCannotBeWrittenIsADeadLetter(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	long := strings.Repeat("x", 64<<10+1)
	for _, record := range []string{"fine", "bell\a", long, "\xff\xfe", "also fine"} {
		if _, err := b.Sess.Create(t.Context(), b.dir.Messages()+"/3-", []byte(record), 2); err != nil {
			t.Fatal(err)
		}
	}
	s := b.source(b.Server.Addr, "me")
	if got := b.take(s); got != "fine also fine" {
		t.Errorf("took %.100q", got)
	}
	b.want("fine", "also fine")
	letters, err := inbox.Letters(t.Context(), b.Sess, b.dir)
	if err != nil || len(letters) != 3 {
		t.Fatalf("%d letters, %v", len(letters), err)
	}
	for i, want := range []struct{ record, why string }{{"bell\a", "U+0007"}, {long, "65537 bytes"}, {"\xff\xfe", "UTF-8"}} {
		l := letters[i]
		if string(l.Record) != want.record || !strings.Contains(l.Reason, want.why) || l.By != "me" || l.When.IsZero() || l.Was == "" {
			t.Errorf("letter %d: %s %s %s", i, l.Reason, l.By, l.Was)
		}
	}
	if err := inbox.Retry(t.Context(), b.Sess, b.dir, letters[0].Name); err != nil {
		t.Fatal(err)
	}
	b.want("fine", "also fine", "bell\a")
	for _, again := range []func(context.Context, *session.Session, inbox.Dir, string) error{inbox.Retry, inbox.Drop} {
		if err := again(t.Context(), b.Sess, b.dir, letters[0].Name); !errors.Is(err, inbox.ErrNoLetter) {
			t.Errorf("a letter that went: %v", err)
		}
		if err := again(t.Context(), b.Sess, b.dir, "../messages/3-0000000000"); !errors.Is(err, inbox.ErrNoLetter) {
			t.Errorf("no letter: %v", err)
		}
	}
	if err := inbox.Drop(t.Context(), b.Sess, b.dir, letters[1].Name); err != nil {
		t.Fatal(err)
	}
	if left, _ := inbox.Letters(t.Context(), b.Sess, b.dir); len(left) != 1 || left[0].Name != letters[2].Name {
		t.Errorf("left: %v", left)
	}
	if err := b.commit(s); err != nil {
		t.Fatal(err)
	}
}

// Whichever answer is lost while a message is moved, it is among the messages or among the
// dead letters, and there once.
func TestADeadLetterIsMovedOnce(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	proxy := zktest.NewProxy(t, b.Server.Addr)
	s := b.source(proxy.Addr, "me")
	for lost := range 4 {
		if _, err := b.Sess.Create(t.Context(), b.dir.Messages()+"/3-", []byte("bell\a"), 2); err != nil {
			t.Fatal(err)
		}
		b.send(5, "fine")
		loseAt(proxy, lost+1, zktest.OpMulti)
		if got := b.take(s); got != "fine" {
			t.Errorf("took %q", got)
		}
		proxy.OnRequest(nil)
		if err := b.commit(s); err != nil {
			t.Fatal(err)
		}
		if letters, err := inbox.Letters(t.Context(), b.Sess, b.dir); err != nil || len(letters) != lost+1 {
			t.Errorf("%d letters, want %d, %v", len(letters), lost+1, err)
		}
	}
	b.want()
}
