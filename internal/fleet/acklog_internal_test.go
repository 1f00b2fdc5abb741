package fleet

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// What is pending stays so until it is acknowledged, whatever else is noted meanwhile.
func TestAckLog_onlyWhatIsAcknowledgedIsNoLongerPending(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acks")
	open := func() *AckLog {
		log, err := OpenAckLog(path)
		if err != nil {
			t.Fatal(err)
		}
		return log
	}
	run := frame.AckRun{Agent: "agent-1", Incarnation: uuid.New()}
	adopted := frame.AckRun{Agent: "agent-1", Incarnation: uuid.New()} // with a turn of the same number
	left := []Left{{run, frame.Pending{Turn: 2, Offset: 100}}, {run, frame.Pending{Turn: 3, Offset: 200}}, {adopted, frame.Pending{Turn: 3, Offset: 300}}}
	log := open()
	if err := log.Pend(left); err != nil {
		t.Fatal(err)
	}
	log.Close()
	for want := left; len(want) > 0; want = want[1:] {
		log = open()
		if !slices.Equal(log.pending, want) {
			t.Fatalf("pending: %v, want %v", log.pending, want)
		}
		later := frame.AckRun{Agent: "agent-of-a-later-run", Incarnation: want[0].Run.Incarnation}
		if err := log.Write(later, want[0].Turn, [][]byte{[]byte("a"), []byte("b")}); err != nil {
			t.Fatal(err)
		}
		log.Close()
	}
	if log = open(); len(log.pending) > 0 {
		t.Errorf("pending: %v, want none", log.pending)
	}
	log.Close()
}

// fullDisk is a log's file on a disk that takes so many bytes more, or does not sync.
type fullDisk struct {
	ackOnDisk
	room      int
	unsynced  bool
	unbending bool // it cannot be cut
}

func (d *fullDisk) WriteAt(b []byte, at int64) (int, error) {
	n, err := d.ackOnDisk.WriteAt(b[:min(len(b), d.room)], at)
	d.room -= n
	if err == nil && n < len(b) {
		err = unix.ENOSPC
	}
	return n, err
}

func (d *fullDisk) Datasync() error {
	if d.unsynced {
		return unix.EIO
	}
	return d.ackOnDisk.Datasync()
}

func (d *fullDisk) Truncate(size int64) error {
	if d.unbending {
		return unix.EIO
	}
	return d.ackOnDisk.Truncate(size)
}

// A line that did not get onto the disk whole is cut off: the next one is not glued to it,
// and what was not told is not in the log. While it cannot be cut off, nothing is written.
func TestAckLog_aHalfLineIsCutOff(t *testing.T) {
	for name, ill := range map[string]func(*fullDisk){
		"a full disk, at once":                func(d *fullDisk) { d.room = 0 },
		"a full disk, in the line":            func(d *fullDisk) { d.room = 10 },
		"a full disk, in the second line":     func(d *fullDisk) { d.room = 80 },
		"a failed sync":                       func(d *fullDisk) { d.unsynced = true },
		"a full disk, and it cannot be cut":   func(d *fullDisk) { d.room, d.unbending = 10, true },
		"a failed sync, and it is not undone": func(d *fullDisk) { d.unsynced, d.unbending = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "acks")
			log, err := OpenAckLog(path)
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			well := log.file.(ackOnDisk)
			run := frame.AckRun{Agent: "agent-1", Incarnation: uuid.New()}
			records := [][]byte{[]byte("a")}
			if err := log.Write(run, 1, records); err != nil {
				t.Fatal(err)
			}
			disk := &fullDisk{ackOnDisk: well, room: 1 << 20}
			ill(disk)
			log.file = disk
			if err := log.Write(run, 2, [][]byte{[]byte("a"), []byte("b")}); err == nil {
				t.Fatal("written")
			}
			if text, err := os.ReadFile(path); !disk.unbending && (err != nil || int64(len(text)) != log.end) {
				t.Errorf("%v; what was not told is in the log:\n%s", err, text)
			}
			disk.room, disk.unsynced = 1<<20, false
			if disk.unbending {
				if err := log.Pend([]Left{{run, frame.Pending{Turn: 2}}}); err == nil {
					t.Error("something was written behind what is not whole")
				}
				log.file = well
			}
			if err := log.Pend([]Left{{run, frame.Pending{Turn: 2}}, {run, frame.Pending{Turn: 3}}}); err != nil {
				t.Fatal(err)
			}
			if acked := wantEachOnce(t, path, 3); acked != 1 {
				t.Errorf("%d are acknowledged", acked)
			}
		})
	}
}

// TestAckLog_isFoundAgain: people empty it, cut it and move it away while an agent has it open.
func TestAckLog_isFoundAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "acks")
	log, err := OpenAckLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	run := frame.AckRun{Agent: "agent-1", Incarnation: uuid.New()}
	turn := uint64(0)
	write := func() error {
		turn++
		return log.Write(run, turn, [][]byte{[]byte("a")})
	}
	// has wants the run's line and those of some turns, and nothing else.
	has := func(turns ...uint64) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var found []uint64
		for n, line := range bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")) {
			if _, err := frame.ParseAckRun(line); err == nil {
				continue
			}
			ack, err := frame.ParseAck(line)
			if err != nil || n == 0 {
				t.Fatalf("line %d: %q, %v", n+1, line, err)
			}
			found = append(found, ack.Turn)
		}
		if !slices.Equal(found, turns) {
			t.Errorf("it has turns %v, want %v", found, turns)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(write())
	must(write())
	has(1, 2)
	must(os.Truncate(path, 0)) // : >acks
	must(write())
	has(3)
	must(write())
	info, err := os.Stat(path)
	must(err)
	must(os.Truncate(path, info.Size()-5))
	must(write())
	has(3, 5)
	must(os.Rename(path, path+".1"))
	must(write())
	has(6)
	must(os.Remove(path))
	must(write())
	has(7)

	before, err := os.ReadFile(path)
	must(err)
	must(os.WriteFile(path, append(before, "somebody else\n"...), 0o600))
	if err := write(); err == nil {
		t.Error("it wrote behind somebody else's line")
	}
	must(os.WriteFile(path, before, 0o600))
	must(write())
	has(7, 9)
}
