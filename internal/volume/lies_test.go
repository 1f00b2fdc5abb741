package volume

import (
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	onNFS     = "90 27 0:50 / /v rw,relatime - nfs4 10.9.0.1:/ rw,vers=4.2,wsize=65536,hard"
	onGluster = "94 27 0:54 / /v rw - fuse.glusterfs 10.9.0.1:/gv0 rw"
	onSSHFS   = "98 27 0:57 / /v rw - fuse.sshfs u@h:/d rw"
	onS3      = "99 27 0:58 / /v rw - fuse.s3fs s3fs rw"
)

// Each lie is one that some volume tells, and each must be found out.
func TestEveryLieIsFoundOut(t *testing.T) {
	for name, lie := range map[string]struct {
		tell  func(l *liar)
		check string
		is    Result
		says  string
	}{
		"an unknown kind":        {func(l *liar) { l.on = onSSHFS }, "file system", Failed, "FUSE"},
		"an object store":        {func(l *liar) { l.on, l.volume = onS3, "sync" }, "file system", Failed, "no writes by position"},
		"a kind vouched for":     {func(l *liar) { l.on, l.volume = onSSHFS, "plain" }, "file system", Warning, "on your word"},
		"another mode":           {func(l *liar) { l.on, l.volume = onNFS, "plain" }, "file system", Warning, "on your word"},
		"a sync that is off":     {func(l *liar) { l.on = local + ",nobarrier" }, "file system", Warning, "nobarrier"},
		"a whole page":           {wholePages, "writes", Failed, "in turns, and"},
		"a write that is lost":   {func(l *liar) { l.write = loses("once-0") }, "writes", Failed, "at once, and 1 of"},
		"a write that is torn":   {tornWrites, "writes", Failed, "not whole"},
		"stale reads":            {staleReads(1 << 30), "writes", Failed, "stale"},
		"late reads":             {func(l *liar) { staleReads(2)(l); l.on, l.clock.look = onGluster, time.Second }, "writes", Warning, "passed before"},
		"late reads, direct":     {func(l *liar) { staleReads(2)(l); l.on = onNFS }, "writes", Failed, "stale"},
		"reads that stay stale":  {func(l *liar) { staleReads(1 << 30)(l); l.on, l.clock.look = onGluster, 6*time.Second }, "writes", Failed, "stale"},
		"no O_DIRECT":            {func(l *liar) { l.on = onNFS; l.write = only("turns", syscall.EINVAL) }, "writes", Failed, "--volume sync"},
		"writes that fail":       {func(l *liar) { l.write = only("once-0", syscall.EIO) }, "writes", Failed, "input/output error"},
		"a free sync":            {func(l *liar) { l.cost = 0 }, "fdatasync", Warning, "no disk confirms that fast"},
		"a nearly free sync":     {func(l *liar) { l.cost = leastSync - 1 }, "fdatasync", Warning, "no disk confirms that fast"},
		"a sync that fails":      {func(l *liar) { l.sync = func() error { return syscall.EIO } }, "fdatasync", Failed, "fdatasync: input/output error"},
		"a sync that fails too":  {func(l *liar) { l.sync = func() error { return syscall.EIO } }, "writes", Failed, "fdatasync: input/output error"},
		"memory":                 {func(l *liar) { l.on = "25 24 0:23 / /v rw - tmpfs tmpfs rw" }, "fdatasync", Warning, "survives a power loss"},
		"a rename that replaces": {func(l *liar) { l.moved = os.Rename }, "files", Failed, "must not replace"},
		"a rename of nothing":    {func(l *liar) { l.moved = func(string, string) error { return nil } }, "files", Failed, "nothing was renamed"},
		"no such rename":         {func(l *liar) { l.moved = func(string, string) error { return syscall.ENOTSUP } }, "files", Warning, "agent adopt"},
		"a rename that fails":    {func(l *liar) { l.moved = func(string, string) error { return syscall.EIO } }, "files", Failed, "input/output error"},
		"a stale name":           {func(l *liar) { l.names = func(string) string { return "was" } }, "files", Failed, "which file it names"},
		"no directory sync":      {func(l *liar) { l.syncDirErr = syscall.EINVAL }, "files", Failed, "directory cannot be synced"},
		"no open with flags":     {func(l *liar) { l.on, l.openErr = onNFS, syscall.EINVAL }, "writes", Failed, "--volume sync"},
		"no FIFOs":               {func(l *liar) { l.mkfifoErr = syscall.EPERM }, "fifo", Warning, "no FIFOs"},
		"a deaf FIFO":            {func(l *liar) { l.hungUp, l.clock.look = sees(false), time.Second }, "fifo", Warning, "did not see it"},
		"a FIFO that is over":    {func(l *liar) { l.hungUp = sees(true) }, "fifo", Warning, "while a process has it open"},
		"a slow FIFO":            {slowHangUp, "fifo", Warning, "did not see it"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLiar()
			lie.tell(l)
			r, err := l.judge(t)
			if err != nil {
				t.Fatal(err)
			}
			f := r.of(t, lie.check)
			if f.Result != lie.is || !strings.Contains(f.Text+f.Next, lie.says) || f.Next == "" {
				t.Errorf("%+v; want %s, %q and the next step", f, lie.is, lie.says)
			}
			if want := map[Result]string{Warning: Warnings, Failed: Unfit}[lie.is]; r.Verdict != want {
				t.Errorf("the verdict is %q, want %q: %+v", r.Verdict, want, r.Findings)
			}
		})
	}
}

// wholePages writes a (large) page of which a range is a part as the descriptor saw it first, as a client of
// NFS does with what it has in its cache.
func wholePages(l *liar) {
	var mu sync.Mutex
	cache := map[*lyingFile][]byte{}
	l.write = func(f *lyingFile, b []byte, off int64) (int, error) {
		if f.name != "turns" {
			return f.file.WriteAt(b, off)
		}
		mu.Lock()
		defer mu.Unlock()
		page := cache[f]
		if page == nil {
			page = make([]byte, 64<<10)
			_, _ = f.file.ReadAt(page, 0) // it may be short
			cache[f] = page
		}
		copy(page[off:], b)
		_, err := f.file.WriteAt(page, 0)
		return len(b), err
	}
}

// loses says that it wrote the tenth write to a file.
func loses(name string) func(*lyingFile, []byte, int64) (int, error) {
	var n atomic.Int64
	return func(f *lyingFile, b []byte, off int64) (int, error) {
		if f.name == name && n.Add(1) == 10 {
			return len(b), nil
		}
		return f.file.WriteAt(b, off)
	}
}

// tornWrites leaves a range's last byte out.
func tornWrites(l *liar) {
	l.write = func(f *lyingFile, b []byte, off int64) (int, error) {
		_, err := f.file.WriteAt(b[:len(b)-1], off)
		return len(b), err
	}
}

// staleReads shows NULs, so many times for each range, where something was written.
func staleReads(times int) func(*liar) {
	return func(l *liar) {
		seen := map[string]int{}
		l.read = func(f *lyingFile, b []byte) {
			if f.name != "turns" {
				return
			}
			if key := string(b); seen[key] < times {
				seen[key]++
				clear(b)
			}
		}
	}
}

// only fails writes to one file.
func only(name string, with error) func(*lyingFile, []byte, int64) (int, error) {
	return func(f *lyingFile, b []byte, off int64) (int, error) {
		if f.name == name {
			return 0, with
		}
		return f.file.WriteAt(b, off)
	}
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
	for _, on := range []string{local, onNFS, onGluster} {
		l := newLiar()
		l.on = on
		r, err := l.judge(t)
		if err != nil || r.Verdict != Fit || len(r.Findings) != 5 || r.Mode == "" {
			t.Errorf("%s: %+v, %v", on, r, err)
		}
		for _, f := range r.Findings {
			if f.Result != OK || f.Next != "" {
				t.Errorf("%+v", f)
			}
		}
		if r.Sync == nil || r.Sync.Plain.Median != 5 || r.Sync.Synced != (Percentile{205, 205}) {
			t.Errorf("measured %+v", r.Sync)
		}
	}
}

func TestAFullVolumeIsNotJudged(t *testing.T) {
	for _, with := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		l := newLiar()
		l.write = only("once-0", with)
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
	l.cost, l.syncDirErr = 0, syscall.EIO
	r, err := l.judge(t)
	if err != nil || r.Verdict != Unfit || len(r.Findings) != 5 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r.With(Failed)[0] != "files" || r.With(Warning)[len(r.With(Warning))-1] != "fdatasync" {
		t.Errorf("%+v", r)
	}
}

// An object store is not one more word away from being used.
func TestAnObjectStoreIsNotOfferedAsAnythingElse(t *testing.T) {
	l := newLiar()
	l.on = onS3
	r, err := l.judge(t)
	if f := r.of(t, "file system"); err != nil || strings.Contains(f.Text+f.Next, "--volume") || r.Mode != "" {
		t.Errorf("%+v, %v", f, err)
	}
}

// What is tried is tried in the mode that agents would use.
func TestTheChecksOpenFilesInTheVolumesMode(t *testing.T) {
	for on, want := range map[string]Mode{local: Plain, onNFS: Direct, onGluster: Sync} {
		l := newLiar()
		l.on = on
		var mu sync.Mutex
		l.opened = func(name string, flag int) {
			mu.Lock()
			defer mu.Unlock()
			if cached := name == "cached"; cached && flag != 0 || !cached && flag != want.Flags() {
				t.Errorf("%s: %s is opened with %#x", on, name, flag)
			}
		}
		if r, err := l.judge(t); err != nil || r.Mode != want {
			t.Errorf("%s: %+v, %v", on, r, err)
		}
	}
}
