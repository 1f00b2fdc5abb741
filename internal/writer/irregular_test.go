package writer

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// irregulars are paths of each kind that is no regular file.
func irregulars(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Mkdir(at("dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(at("fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return map[string]string{"directory": at("dir"), "FIFO": at("fifo"), "socket": at("socket"), "device": os.DevNull}
}

// returns fails when do waits for ever, as the open of a FIFO may.
func returns(t *testing.T, do func() error) (err error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }() // ends with do
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for ever")
		return nil
	}
}

func TestOpen_refusesEachKindThatIsNoFile(t *testing.T) {
	for kind, path := range irregulars(t) {
		t.Run(kind, func(t *testing.T) {
			err := returns(t, func() error { _, err := Open(Options{Path: path}); return err })
			wantRefused(t, err, false, "not a regular file")
		})
	}
}

func TestOpenReader_refusesEachKindThatIsNoFile(t *testing.T) {
	for kind, path := range irregulars(t) {
		t.Run(kind, func(t *testing.T) {
			err := returns(t, func() error { _, err := OpenReader(path, Plain); return err })
			if kind == "socket" { // which cannot even be opened
				if err == nil {
					t.Error("it is open")
				}
				return
			}
			wantRefused(t, err, false, "not a regular file")
		})
	}
}

// swapped says of a path, once, that a file is there.
type swapped struct {
	OS
	asked int
}

func (s *swapped) Lstat(name string) (Info, error) {
	if s.asked++; s.asked == 1 {
		return Info{Links: 1, Regular: true}, nil
	}
	return s.OS.Lstat(name)
}

// What was a file when the path was looked at is something else when it is opened.
func TestFile_whatTakesThePlaceOfAFileIsNotWaitedFor(t *testing.T) {
	for kind, path := range irregulars(t) {
		t.Run(kind, func(t *testing.T) {
			f := &File{Options: Options{Path: path, FS: &swapped{}}}
			if err := returns(t, f.Blank); err == nil && kind != "device" { // /dev/null is empty
				t.Error("it passes for a file that is empty")
			}
			f = &File{Options: Options{Path: path, FS: &swapped{}}}
			err := returns(t, func() error { _, err := f.Attach(frame.Head{}, nil); return err })
			if err == nil {
				t.Error("it is attached")
			}
		})
	}
}
