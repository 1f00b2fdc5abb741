package lifeline

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func holdLife(t testing.TB, d Dir, name string) (life string, release func()) {
	t.Helper()
	life, release, err := d.Hold(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return life, release
}

func wantStands(t testing.TB, d Dir, life string, want bool) {
	t.Helper()
	if got, err := d.Stands(life); err != nil || got != want {
		t.Errorf("%s stands: %v, %v, want %v", life, got, err, want)
	}
}

func TestHoldGivesALifeThatNamesItsFIFO(t *testing.T) {
	d := newDir(t)
	life, release := holdLife(t, d, "a")
	var st unix.Stat_t
	if err := unix.Stat(d.Path(life), &st); err != nil {
		t.Fatal(err)
	}
	name, rest, _ := strings.Cut(life, ".")
	if name != "a" || rest == "" || d.Path(life) != filepath.Join(string(d), "a") {
		t.Errorf("life %q at %s", life, d.Path(life))
	}
	other, _ := holdLife(t, d, "b")
	if _, of, _ := strings.Cut(other, "."); of == rest {
		t.Errorf("two FIFOs, one device and inode: %s, %s", life, other)
	}
	wantStands(t, d, life, true)
	if !d.Tells(life) {
		t.Error("its end is told to nobody")
	}
	wantAlive(t, watchLife(t, d, life))
	release()
	wantStands(t, d, life, false)
	wantStands(t, d, other, true)
}

// Its name is there, but the pipe is another: it says nothing of who published the life.
func TestWatchRefusesAnotherFIFO(t *testing.T) {
	d := newDir(t)
	life, _ := holdLife(t, d, "a")
	// A second FIFO, made while the first still has its inode.
	if err := unix.Mkfifo(d.Path(life)+"-new", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(d.Path(life)+"-new", d.Path(life)); err != nil {
		t.Fatal(err)
	}
	before := countDescriptors(t)
	name, id, _ := strings.Cut(life, ".")
	dev, ino, _ := strings.Cut(id, ".")
	for what, of := range map[string]string{
		"another inode":        life,
		"no device, no inode":  name,
		"no inode":             name + "." + dev,
		"another device":       name + ".f" + dev + "." + ino,
		"more than the device": life + ".1",
	} {
		if _, _, err := d.Watch(of); err == nil || !strings.Contains(err.Error(), "another FIFO") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := countDescriptors(t); n != before {
		t.Errorf("%d descriptors, %d before", n, before)
	}
	wantStands(t, d, life, true) // which is only about the name
}

func TestStandsKeepsToTheDirectory(t *testing.T) {
	d := newDir(t)
	life, _ := holdLife(t, d, "a")
	holdLife(t, Dir(filepath.Dir(string(d))), "outside")
	wantStands(t, d, "never", false)
	for _, of := range []string{"", ".", "../outside", "/a", ".a", "A"} {
		wantStands(t, d, of, false)
	}
	if _, err := (Dir(d.Path(life))).Stands("x"); err == nil {
		t.Error("below what is not a directory: no error") // unknown is not gone
	}
}

// Where the file system takes no FIFOs the name shows who is there; nobody is told of a death.
func TestWhereThereAreNoFIFOsAPlainFileStands(t *testing.T) {
	for _, refusal := range []error{unix.EPERM, unix.EOPNOTSUPP, unix.ENOSYS} {
		t.Run(refusal.Error(), func(t *testing.T) {
			was := mkfifo
			defer func() { mkfifo = was }()
			mkfifo = func(string, uint32) error { return refusal }
			d := newDir(t)
			life, release := holdLife(t, d, "a")
			if life != "a" || d.Tells(life) {
				t.Errorf("life %q, whose end is told: %v", life, d.Tells(life))
			}
			info, err := os.Lstat(d.Path(life))
			if err != nil || !info.Mode().IsRegular() {
				t.Fatalf("%v, %v", info, err)
			}
			wantStands(t, d, life, true)
			if _, _, err := d.Watch(life); err == nil || !strings.Contains(err.Error(), "is not a FIFO") {
				t.Errorf("watch a plain file: %v", err)
			}
			if err := d.Sweep(keepNone); err != nil {
				t.Error(err)
			}
			wantStands(t, d, life, true) // nobody knows that it is dead
			release()
			if got := listing(t, d); got != "" {
				t.Errorf("left: %s", got)
			}
		})
	}
	was := mkfifo
	defer func() { mkfifo = was }()
	mkfifo = func(string, uint32) error { return unix.EACCES }
	if _, _, err := newDir(t).Hold("a"); err == nil {
		t.Error("not to be allowed is not to have no FIFOs")
	}
}

// Who waits in a queue is not kept from its turn by a volume that hangs; when that goes on,
// deaths are told again.
func TestWatchDoesNotWaitForAVolumeThatHangs(t *testing.T) {
	d := newDir(t)
	h := process(t, d, "a")
	of, asked, mended := life(t, d, "a"), make(chan struct{}, 2), make(chan struct{})
	openPipe = func(path string, mode int) (int, error) {
		asked <- struct{}{}
		<-mended
		return openFIFO(path, mode)
	}
	defer func() { openPipe = openFIFO }()
	before := countDescriptors(t)
	died := watchLife(t, d, of)
	given, stop, err := d.Watch(of)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	<-asked
	<-asked
	close(mended)
	h.kill()
	wantDeath(t, died)
	wantAlive(t, given)
	// The holder's pipe is closed, and the one watch is open.
	for end := time.Now().Add(patience); countDescriptors(t) > before; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("the watch that was stopped keeps the FIFO open")
		}
	}
}
