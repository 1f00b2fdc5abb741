package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// A signal that comes before the command's own signals are caught must not be forgotten,
// with the command running on.
func TestASignalBeforeTheCommandIsNotForgotten(t *testing.T) {
	for name, args := range map[string][]string{
		"lock":    {"lock", "it"},
		"barrier": {"barrier", "it", "--size", "1"}, // told when it has entered
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			tell := func() { cancel(signalError{unix.SIGTERM}) }
			errs := &tripwire{text: "all 1 are here", trip: tell}
			if name == "lock" {
				tell()
			}
			mark := filepath.Join(t.TempDir(), "ran")
			args = append(args, "--zookeeper", zktest.Start(t).Addr, "--", "touch", mark)
			if code := execute(ctx, args, strings.NewReader(""), &bytes.Buffer{}, errs); code != 143 {
				t.Errorf("exit code %d, want 143; it says %s", code, errs.said.String())
			}
			if _, err := os.Stat(mark); err == nil {
				t.Error("the command ran")
			}
			if !strings.Contains(errs.said.String(), "terminated signal received; the command was not run") {
				t.Errorf("it says %s", errs.said.String())
			}
		})
	}
}

// tripwire is a writer that is tripped by a text.
type tripwire struct {
	said bytes.Buffer
	text string
	trip func()
}

func (w *tripwire) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.text)) {
		w.trip()
	}
	return w.said.Write(p)
}
