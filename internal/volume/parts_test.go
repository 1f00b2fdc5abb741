package volume

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

// framesOf is what processes leave that append in the order given.
func framesOf(order ...int) []byte {
	var file, buf []byte
	n := map[int]int{}
	for _, process := range order {
		buf = makeFrame(buf, process, n[process])
		file = append(file, buf...)
		n[process]++
	}
	return file
}

func TestFramesAreReadAsTheyWereWritten(t *testing.T) {
	order := []int{0, 1, 2, 3, 3, 3, 0, 2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	file := framesOf(order...)
	got, err := readFrames(bytes.NewReader(file), 4)
	if err != nil || !slices.Equal(got.frames, []int{12, 2, 3, 3}) || got.bytes != int64(len(file)) || got.switches != 7 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Whatever byte is flipped and wherever the file ends, it is found, unless it ends
// between two frames.
func TestEveryFlippedByteAndEveryCutOfFramesIsFound(t *testing.T) {
	file := framesOf(0, 1, 0, 1)
	for i := range file {
		broken := bytes.Clone(file)
		broken[i] ^= 1
		if got, err := readFrames(bytes.NewReader(broken), 2); err == nil {
			t.Errorf("byte %d flipped: %+v", i, got)
		}
		got, err := readFrames(bytes.NewReader(file[:i]), 2)
		if whole := got.bytes == int64(i); (err == nil) != whole {
			t.Errorf("cut at %d: %+v, %v", i, got, err)
		}
	}
}

func TestFramesOutOfOrderAreFound(t *testing.T) {
	first := len(framesOf(0))
	both := framesOf(0, 0)
	for name, file := range map[string][]byte{
		"swapped": append(bytes.Clone(both[first:]), both[:first]...),
		"doubled": append(bytes.Clone(both), both[first:]...),
		"missing": both[first:],
	} {
		if got, err := readFrames(bytes.NewReader(file), 1); err == nil || !strings.Contains(err.Error(), "stands where") {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestPercentiles(t *testing.T) {
	var all []time.Duration
	for i := range 101 {
		all = append(all, time.Duration(100-i)*time.Microsecond)
	}
	if got := percentile(all); got != (Percentile{50, 99}) {
		t.Errorf("%+v", got)
	}
	if got := percentile(all[:1]); got != (Percentile{100, 100}) {
		t.Errorf("of one: %+v", got)
	}
}

func TestMountsAreReadAsTheKernelWritesThem(t *testing.T) {
	for _, line := range []string{
		"36 35 98:0 /root /mnt rw,noatime master:1 shared:2 - ext3 /dev/root rw,nobarrier",
		"36 35 98:0 /root /mnt rw,noatime - ext3 /dev/root rw,nobarrier",
	} {
		id, m, err := parseMount(line)
		if err != nil || id != 36 || m.kind != "ext3" || m.source != "/dev/root" || m.point != "/mnt" ||
			strings.Join(m.options, " ") != "rw noatime rw nobarrier" {
			t.Errorf("%d, %+v, %v", id, m, err)
		}
	}
	for _, line := range []string{"", "36 35 98:0 / /mnt rw", "a b - c d e", "x 35 98:0 / /mnt rw - ext3 a rw"} {
		if _, _, err := parseMount(line); err == nil {
			t.Errorf("%q is taken", line)
		}
	}
	if m := mountOf("/proc/self"); m.kind != "proc" || m.point != "/proc" {
		t.Errorf("/proc is on %+v", m)
	}
}

func TestAMountThatDoesNotWaitForItsDiskIsWarnedOf(t *testing.T) {
	for _, option := range careless {
		f := judgeMount("ext4", true, mount{point: "/mnt", options: []string{"rw", option}})
		if f.Result != Warning || !strings.Contains(f.Text, option) || !strings.Contains(f.Next, "/mnt") {
			t.Errorf("%s: %+v", option, f)
		}
	}
	if f := judgeMount("ext4", true, mount{options: []string{"rw", "relatime"}}); f.Result != OK {
		t.Errorf("%+v", f)
	}
	if f := judgeMount("FUSE", false, mount{kind: "fuse.sshfs"}); f.Result != Failed || !strings.Contains(f.Text, "fuse.sshfs") {
		t.Errorf("%+v", f)
	}
}
