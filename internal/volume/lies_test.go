package volume

import (
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// Each lie is one that some volume tells, and each must be found out.
func TestEveryLieIsFoundOut(t *testing.T) {
	for name, lie := range map[string]struct {
		tell  func(l *liar)
		check string
		is    Result
		says  string
	}{
		"a network volume":     {func(l *liar) { l.kind = func() (string, bool) { return "NFS", false } }, "file system", Failed, "NFS"},
		"a flock for everyone": {func(l *liar) { l.lock = func(*lyingHandle) error { return nil } }, "flock", Failed, "two processes had the same flock"},
		"a flock for nobody":   {func(l *liar) { l.lock = func(*lyingHandle) error { return writer.ErrLocked } }, "flock", Failed, "before anybody took it"},
		"no flock":             {func(l *liar) { l.lock = func(*lyingHandle) error { return syscall.ENOLCK } }, "flock", Failed, "no locks available"},
		"a flock that stays":   {func(l *liar) { l.unlock = func() bool { return false } }, "flock", Failed, "its holder gave it up"},
		"a dead one's flock":   {func(l *liar) { l.immortal, l.clock.look = true, time.Second }, "flock", Failed, "after its holder was killed"},
		"a flock that lingers": {lingers, "flock", Warning, "free only"},
		"stale reads":          {staleReads, "flock", Failed, "the sum is"},
		"torn appends":         {tornAppends, "append", Failed, "torn or mixed"},
		"a lost append":        {func(l *liar) { l.write = loses(func(n int) bool { return n == 2 }) }, "append", Failed, "one was lost"},
		"the last ones lost":   {func(l *liar) { l.write = loses(func(n int) bool { return n > 2 }) }, "append", Failed, "are in the file"},
		"a cut append":         {cutAppends, "append", Failed, "torn or mixed"},
		"appends that fail":    {failingAppends(syscall.EIO), "append", Failed, "input/output error"},
		"a free sync":          {func(l *liar) { l.cost = 0 }, "fdatasync", Warning, "no disk confirms that fast"},
		"a nearly free sync":   {func(l *liar) { l.cost = leastSync - 1 }, "fdatasync", Warning, "no disk confirms that fast"},
		"a sync that fails":    {func(l *liar) { l.sync = func() error { return syscall.EIO } }, "fdatasync", Failed, "fdatasync: input/output error"},
		"memory":               {func(l *liar) { l.kind = func() (string, bool) { return "tmpfs", true } }, "fdatasync", Warning, "survives a power loss"},
		"inodes that change":   {changingInodes, "files", Failed, "looks like several"},
		"a replaced file":      {staleInode, "files", Failed, "renamed over another"},
		"a removed file":       {func(l *liar) { l.remove = func(name string) bool { return name != "old" } }, "files", Failed, "is still there"},
		"a second name":        {oneName, "files", Failed, "two names is said to have 1"},
		"links that are files": {func(l *liar) { l.follow = true }, "files", Failed, "symbolic link"},
		"a stale size":         {staleSize, "files", Failed, "several sizes"},
		"a cut that is none":   {func(l *liar) { l.truncate = func() bool { return false } }, "files", Failed, `holds "kept, and cut!"`},
		"no directory sync":    {func(l *liar) { l.syncDir = syscall.EINVAL }, "files", Failed, "directory cannot be synced"},
		"no FIFOs":             {func(l *liar) { l.mkfifo = syscall.EPERM }, "fifo", Warning, "no FIFOs"},
		"a deaf FIFO":          {func(l *liar) { l.hungUp, l.clock.look = sees(false), time.Second }, "fifo", Warning, "did not see it"},
		"a FIFO that is over":  {func(l *liar) { l.hungUp = sees(true) }, "fifo", Warning, "while a process has it open"},
		"a slow FIFO":          {slowHangUp, "fifo", Warning, "did not see it"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLiar()
			lie.tell(l)
			r, err := l.judge(t)
			if err != nil {
				t.Fatal(err)
			}
			f := r.of(t, lie.check)
			if f.Result != lie.is || !strings.Contains(f.Text, lie.says) || f.Next == "" {
				t.Errorf("%+v; want %s, %q and the next step", f, lie.is, lie.says)
			}
			if want := map[Result]string{Warning: Warnings, Failed: Unfit}[lie.is]; r.Verdict != want {
				t.Errorf("the verdict is %q, want %q: %+v", r.Verdict, want, r.Findings)
			}
		})
	}
}

func lingers(l *liar) {
	l.immortal, l.clock.look = true, 500*time.Millisecond
	var first *lyingHandle
	tries := 0
	var mu sync.Mutex
	l.lock = func(h *lyingHandle) error {
		mu.Lock()
		defer mu.Unlock()
		switch tries++; {
		case tries == 3: // the second process's, which is killed
			first = h
		case tries == 6: // the others have tried twice
			_ = first.Handle.Unlock()
		}
		return h.Handle.TryLock()
	}
}

// staleReads shows now and then what the file held before.
func staleReads(l *liar) {
	var reads atomic.Int64
	l.read = func(h *lyingHandle, b []byte) {
		if n := reads.Add(1); h.name == "fence" && n%3 == 0 {
			if now := binary.BigEndian.Uint64(b); now > 0 {
				binary.BigEndian.PutUint64(b, now-1)
			}
		}
	}
}

// tornAppends writes the second half of a frame behind what comes next.
func tornAppends(l *liar) {
	var mu sync.Mutex
	var rest []byte
	l.write = func(h *lyingHandle, b []byte) (int, error) {
		if !strings.HasPrefix(h.name, "data-") {
			return h.Handle.Write(b)
		}
		mu.Lock()
		defer mu.Unlock()
		_, err := h.Handle.Write(append(append([]byte{}, b[:len(b)/2]...), rest...))
		rest = append([]byte{}, b[len(b)/2:]...)
		return len(b), err
	}
}

// loses says that it wrote a process's nth frame when it is one of the unlucky.
func loses(unlucky func(n int) bool) func(*lyingHandle, []byte) (int, error) {
	var mu sync.Mutex
	wrote := map[*lyingHandle]int{}
	return func(h *lyingHandle, b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		if wrote[h]++; strings.HasPrefix(h.name, "data-") && unlucky(wrote[h]) {
			return len(b), nil
		}
		return h.Handle.Write(b)
	}
}

// cutAppends leaves a frame's last byte out.
func cutAppends(l *liar) {
	l.write = func(h *lyingHandle, b []byte) (int, error) {
		if !strings.HasPrefix(h.name, "data-") || len(b) < 200 {
			return h.Handle.Write(b)
		}
		_, err := h.Handle.Write(b[:len(b)-1])
		return len(b), err
	}
}

func failingAppends(with error) func(*liar) {
	return func(l *liar) {
		l.write = func(h *lyingHandle, b []byte) (int, error) {
			if strings.HasPrefix(h.name, "data-") && len(b) > 200 {
				return 0, with
			}
			return h.Handle.Write(b)
		}
	}
}

func changingInodes(l *liar) {
	n := uint64(0)
	l.lstat = func(_ string, truth writer.Info) writer.Info { n++; truth.Ino += n; return truth }
}

// staleInode says of a file that was replaced what it was before.
func staleInode(l *liar) {
	was := map[string]uint64{}
	l.opened = func(name string, truth writer.Info) {
		if was[name] == 0 {
			was[name] = truth.Ino
		}
	}
	l.lstat = func(name string, truth writer.Info) writer.Info { truth.Ino = was[name]; return truth }
}

func oneName(l *liar) {
	l.lstat = func(_ string, truth writer.Info) writer.Info { truth.Links = 1; return truth }
}

func staleSize(l *liar) {
	l.lstat = func(_ string, truth writer.Info) writer.Info { truth.Size = 0; return truth }
}

func sees(what bool) func(bool) (bool, error) {
	return func(bool) (bool, error) { return what, nil }
}

func slowHangUp(l *liar) {
	l.clock.look = 600 * time.Millisecond
	asked := 0
	l.hungUp = func(truth bool) (bool, error) { asked++; return truth && asked > 3, nil }
}

func TestAnHonestVolumeIsFit(t *testing.T) {
	r, err := newLiar().judge(t)
	if err != nil {
		t.Fatal(err)
	}
	// On a busy machine the processes may not have met.
	if r.Verdict == Unfit || len(r.Findings) != 6 {
		t.Errorf("%+v", r)
	}
	for _, check := range []string{"file system", "files", "fdatasync", "fifo"} {
		if f := r.of(t, check); f.Result != OK || f.Next != "" {
			t.Errorf("%+v", f)
		}
	}
	if r.Sync == nil || r.Sync.Plain.Median != 5 || r.Sync.Synced != (Percentile{205, 205}) {
		t.Errorf("measured %+v", r.Sync)
	}
}

// A volume on which there can be no second name has none to be found.
func TestAVolumeWithoutLinksIsFit(t *testing.T) {
	l := newLiar()
	l.link = syscall.EPERM
	r, err := l.judge(t)
	if err != nil || r.of(t, "files").Result != OK {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAFullVolumeIsNotJudged(t *testing.T) {
	for _, with := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		l := newLiar()
		failingAppends(with)(l)
		_, err := l.judge(t)
		var full *SpaceError
		if !errors.As(err, &full) || !errors.Is(err, with) || full.Free == 0 || !strings.Contains(err.Error(), "make room") {
			t.Errorf("%v: %v", with, err)
		}
	}
}

// One finding's failure does not keep the others from being made.
func TestTheWorstFindingIsTheVerdict(t *testing.T) {
	l := newLiar()
	l.cost, l.syncDir = 0, syscall.EIO
	r, err := l.judge(t)
	if err != nil || r.Verdict != Unfit || len(r.Findings) != 6 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r.With(Failed)[0] != "files" || r.With(Warning)[len(r.With(Warning))-1] != "fdatasync" {
		t.Errorf("%+v", r)
	}
}
