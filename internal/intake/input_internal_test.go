package intake

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpen_readsAPipeWithoutBlocking: somebody else who has the pipe may read what we saw in it,
// and a read that blocks then could not be told to end. The pipe as others have it is left alone.
func TestOpen_readsAPipeWithoutBlocking(t *testing.T) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil { // os.Pipe's do not block
		t.Fatal(err)
	}
	from := os.NewFile(uintptr(ends[0]), "from")
	defer from.Close()
	defer unix.Close(ends[1])
	in, err := Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	blocks := func(fd int) bool {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			t.Fatal(err)
		}
		return flags&unix.O_NONBLOCK == 0
	}
	if blocks(in.fd) || !blocks(ends[0]) {
		t.Errorf("ours blocks: %v, others' does not: %v", blocks(in.fd), !blocks(ends[0]))
	}
}
