package lifeline

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain makes the test binary, run again, a process that holds a lifeline until it
// is killed or its input ends. Without a name it holds none.
func TestMain(m *testing.M) {
	dir, child := os.LookupEnv("LIFELINE_TEST_DIR")
	if !child {
		os.Exit(m.Run())
	}
	if name := os.Getenv("LIFELINE_TEST_NAME"); name != "" {
		if _, _, err := Dir(dir).Hold(name); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	fmt.Println("holding")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// patience is for what should happen soon, on a busy machine too.
const patience = 20 * time.Second

// holder is a process of its own that holds name; its kill does not return before it
// has ended.
type holder struct {
	t   testing.TB
	cmd *exec.Cmd
}

func process(t testing.TB, d Dir, name string) holder {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "LIFELINE_TEST_DIR="+string(d), "LIFELINE_TEST_NAME="+name)
	if _, err := cmd.StdinPipe(); err != nil { // ends it when we end
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := holder{t, cmd}
	t.Cleanup(h.kill)
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "holding\n" {
		t.Fatalf("the holder says %q", line)
	}
	return h
}

func (h holder) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
}

// stop returns when the process does not run any more.
func (h holder) stop() {
	h.t.Helper()
	if err := h.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		h.t.Fatal(err)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, h.cmd.Process.Pid, &info, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		h.t.Fatal(err)
	}
}

// life is that of the FIFO that stands under name now.
func life(t testing.TB, d Dir, name string) string {
	t.Helper()
	fd, err := openFIFO(d.Path(name), unix.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	life, err := lifeOf(name, fd)
	if err != nil {
		t.Fatal(err)
	}
	return life
}

func watch(t testing.TB, d Dir, name string) <-chan struct{} {
	t.Helper()
	return watchLife(t, d, life(t, d, name))
}

func watchLife(t testing.TB, d Dir, life string) <-chan struct{} {
	t.Helper()
	died, stop, err := d.Watch(life)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return died
}

func hold(t testing.TB, d Dir, name string) (release func()) {
	t.Helper()
	_, release, err := d.Hold(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return release
}

func wantDeath(t testing.TB, died <-chan struct{}) {
	t.Helper()
	select {
	case <-died:
	case <-time.After(patience):
		t.Fatal("its death is not noticed")
	}
}

func wantAlive(t testing.TB, died <-chan struct{}) {
	t.Helper()
	select {
	case <-died:
		t.Fatal("it is taken for dead")
	default:
	}
}

// isHeld asks the kernel, here and now.
func isHeld(t testing.TB, d Dir, name string) bool {
	t.Helper()
	let, err := d.letGo()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(string(d), name)); err != nil {
		t.Fatal(err)
	}
	for _, l := range let {
		if l == name {
			return false
		}
	}
	return true
}

func newDir(t testing.TB) Dir { return Dir(filepath.Join(t.TempDir(), "alive")) }

func TestAKillIsNoticed(t *testing.T) {
	d := newDir(t)
	h := process(t, d, "a")
	died := watch(t, d, "a")
	second := watch(t, d, "a")
	wantAlive(t, died)
	h.kill()
	wantDeath(t, died)
	wantDeath(t, second)
	wantDeath(t, watch(t, d, "a")) // and by who comes later
}

func TestAStoppedProcessIsAlive(t *testing.T) {
	d := newDir(t)
	h := process(t, d, "a")
	died := watch(t, d, "a")
	h.stop()
	if !isHeld(t, d, "a") {
		t.Error("the kernel let go of a stopped process's lifeline")
	}
	wantAlive(t, died)
	wantAlive(t, watch(t, d, "a"))
	h.kill() // a stopped process dies at once
	wantDeath(t, died)
}

func TestReleaseIsADeathAndLeavesNothing(t *testing.T) {
	d := newDir(t)
	release := hold(t, d, "a")
	died := watch(t, d, "a")
	wantAlive(t, died)
	release()
	wantDeath(t, died)
	if entries, err := os.ReadDir(string(d)); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	// The descriptor's number is another's now: letting go again must not touch it.
	other := hold(t, d, "b")
	release()
	if !isHeld(t, d, "b") {
		t.Error("a second release closed another's lifeline")
	}
	other()
}

// A child that the holder starts does not keep it alive.
func TestALifelineIsNotInherited(t *testing.T) {
	d := newDir(t)
	release := hold(t, d, "a")
	died := watch(t, d, "a")
	process(t, d, "")
	release()
	wantDeath(t, died)
}

func TestWhereNothingIsKnownNobodyIsDead(t *testing.T) {
	d := newDir(t)
	hold(t, d, "live")
	at := func(name string) string { return filepath.Join(string(d), name) }
	for name, c := range map[string]struct {
		made error
		want string
	}{
		"missing":   {nil, "no such file"},
		"regular":   {os.WriteFile(at("regular"), nil, 0o644), "is not a FIFO"},
		"directory": {os.Mkdir(at("directory"), 0o755), "is not a FIFO"},
		"link":      {os.Symlink("live", at("link")), "symbolic links"},
		"dangling":  {os.Symlink("nowhere", at("dangling")), "symbolic links"},
	} {
		if c.made != nil {
			t.Fatal(c.made)
		}
		if _, _, err := d.Watch(name); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := Dir(string(d) + "-other").Watch("live"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in another directory: %v", err)
	}
}

func TestNamesStayInTheDirectory(t *testing.T) {
	d := newDir(t)
	hold(t, d, "a")
	hold(t, Dir(filepath.Dir(string(d))), "outside")
	for _, name := range []string{"", ".", "..", "../outside", "./a", "/a", "a/", ".a", "A", "a\x00", "ü", strings.Repeat("a", maxName+1)} {
		if _, _, err := d.Watch(name); err == nil {
			t.Errorf("watch %q: no error", name)
		}
		if _, _, err := d.Hold(name); err == nil {
			t.Errorf("hold %q: no error", name)
		}
	}
}

// Somebody removes the FIFO of a live process: who watches already sees its death, who
// comes later knows nothing.
func TestARemovedLifeline(t *testing.T) {
	d := newDir(t)
	h := process(t, d, "a")
	died := watch(t, d, "a")
	if err := os.Remove(filepath.Join(string(d), "a")); err != nil {
		t.Fatal(err)
	}
	wantAlive(t, died)
	if _, _, err := d.Watch("a"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("watch a removed one: %v", err)
	}
	h.kill()
	wantDeath(t, died)
}

// More than a pipe holds goes through it: it is drained, and says nothing about the
// holder.
func TestWhatStrangersWriteIsThrownAway(t *testing.T) {
	d := newDir(t)
	h := process(t, d, "a")
	died := watch(t, d, "a")
	stranger, err := os.OpenFile(filepath.Join(string(d), "a"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for range 64 {
		if _, err := stranger.Write(make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
	}
	wantAlive(t, died)
	h.kill()
	wantAlive(t, died) // the stranger holds it, so nothing is known
	stranger.Close()
	wantDeath(t, died)
}

func TestAWatchLeavesNothingBehind(t *testing.T) {
	d := newDir(t)
	hold(t, d, "a")
	warm := watch(t, d, "a") // the runtime's own descriptors
	descriptors, goroutines := countDescriptors(t), runtime.NumGoroutine()
	for range 100 {
		died, stop, err := d.Watch(life(t, d, "a"))
		if err != nil {
			t.Fatal(err)
		}
		stop()
		stop()
		wantAlive(t, died)
		for _, name := range []string{"missing", "../a"} {
			if _, _, err := d.Watch(name); err == nil {
				t.Fatalf("%q can be watched", name)
			}
		}
	}
	wantAlive(t, warm)
	if n := countDescriptors(t); n != descriptors {
		t.Errorf("%d descriptors, %d before", n, descriptors)
	}
	for end := time.Now().Add(patience); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
		}
	}
}

func countDescriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestHoldSaysWhyItCannot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alive")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		file:                             "is not a directory",
		"/proc/alive":                    "/proc/alive",
		"/dev/null/alive":                "not a directory",
		filepath.Dir(file) + "/no/alive": "no such file",
	} {
		if _, _, err := Dir(dir).Hold("a"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
