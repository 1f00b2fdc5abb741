package intake_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/intake"
)

func spool(t *testing.T, dir, text string, doubt bool) *intake.Spool {
	t.Helper()
	s, err := intake.OpenSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	if string(s.Text) != text || (s.InDoubt != "") != doubt {
		t.Errorf("it has %q, in doubt %q; want %q, %v", s.Text, s.InDoubt, text, doubt)
	}
	return s
}

func TestSpool_theNextRunBeginsWithWhatWasLeft(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "of", "one")
	first := spool(t, dir, "", false)
	if _, err := intake.OpenSpool(dir); err == nil {
		t.Error("two have it")
	}
	if _, err := first.Close([]byte("2\npar"), nil, true); err != nil {
		t.Fatal(err)
	}
	if _, err := spool(t, dir, "2\npar", false).Close(nil, nil, true); err != nil {
		t.Fatal(err)
	}
	if _, err := spool(t, dir, "", false).Close(nil, nil, true); err != nil {
		t.Fatal(err)
	}
}

// TestSpool_aRunThatWasKilledIsInDoubt: what it began with may be written.
func TestSpool_aRunThatWasKilledIsInDoubt(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "taken"), []byte("1\n2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := spool(t, dir, "", true)
	if text, err := os.ReadFile(s.InDoubt); err != nil || string(text) != "1\n2\n" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := s.Close(nil, nil, true); err != nil {
		t.Fatal(err)
	}
	spool(t, dir, "", false).Close(nil, nil, true)
}

// TestSpool_notAllIsKnown: what stood in a reader that does not end is kept with what the run
// began with.
func TestSpool_notAllIsKnown(t *testing.T) {
	dir := t.TempDir()
	if _, err := spool(t, dir, "", false).Close([]byte("1\n2\n"), nil, true); err != nil {
		t.Fatal(err)
	}
	if _, err := spool(t, dir, "1\n2\n", false).Close([]byte("1\n"), nil, false); err != nil {
		t.Fatal(err)
	}
	s := spool(t, dir, "1\n", true)
	if text, err := os.ReadFile(s.InDoubt); err != nil || string(text) != "1\n2\n" {
		t.Errorf("%q, %v", text, err)
	}
	s.Close(nil, nil, true)
}

// TestSpool_whatIsInDoubtIsKeptApart, and is not read again.
func TestSpool_whatIsInDoubtIsKeptApart(t *testing.T) {
	dir := t.TempDir()
	for _, doubt := range []string{"1\n", "2\n"} {
		name, err := spool(t, dir, "", false).Close(nil, []byte(doubt), true)
		if text, unread := os.ReadFile(name); err != nil || unread != nil || string(text) != doubt {
			t.Errorf("%s: %q, %v, %v", name, text, err, unread)
		}
	}
}
