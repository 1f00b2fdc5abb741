package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseMount(t *testing.T) {
	for _, optional := range []string{"", "shared:2 ", "master:1 shared:2 ", "unbindable "} {
		m, ok := parseMount("36 35 98:0 /root /mnt rw,noatime " + optional + "- ext3 /dev/root rw,nobarrier")
		if !ok || m.id != 36 || m.kind != "ext3" || m.source != "/dev/root" || m.point != "/mnt" ||
			!slices.Equal(m.options, []string{"rw", "noatime", "rw", "nobarrier"}) {
			t.Errorf("%q: %+v, %v", optional, m, ok)
		}
	}
	for _, line := range []string{
		"", "36 35 98:0 / /mnt rw", "a b - c d e", "x 35 98:0 / /mnt rw - ext3 a rw", "-1 35 98:0 / /mnt rw - ext3 a rw",
		"36 35 98:0 / mnt rw - ext3 a rw", "36 35 98:0 / /mnt rw - ext3 a", "36 35 98:0 /mnt rw - ext3 a rw",
	} {
		if m, ok := parseMount(line); ok {
			t.Errorf("%q is taken: %+v", line, m)
		}
	}
}

func TestParseMount_escapes(t *testing.T) {
	m, ok := parseMount(`36 35 98:0 / /a\040b\134c\011d\012e rw - fuse.s\043x C:\134 rw`)
	if !ok || m.point != "/a b\\c\td\ne" || m.kind != "fuse.s#x" || m.source != `C:\` {
		t.Errorf("%+v, %v", m, ok)
	}
	for name, want := range map[string]string{`\`: `\`, `\04`: `\04`, `\999`: `\999`, `\777`: `\777`, `a\040`: "a ", `\134040`: `\040`} {
		if got := unescape(name); got != want {
			t.Errorf("%q became %q, want %q", name, got, want)
		}
	}
}

func TestParseMounts_aLineNotUnderstoodIsAnError(t *testing.T) {
	const line = "27 1 254:0 / / rw - ext4 /dev/vda rw\n"
	if all, err := parseMounts(line + line); err != nil || len(all) != 2 {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := parseMounts(line + "nonsense\n"); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("%v", err)
	}
}

const table = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
40 27 0:40 / /srv rw - nfs4 server:/ rw,wsize=65536
41 40 254:0 /local /srv/local rw - ext4 /dev/vda rw
42 27 0:42 / /srvice rw - tmpfs tmpfs rw
43 27 0:43 / /with\040space rw - cifs //s/x rw
44 27 254:1 / /twice rw - xfs /dev/vdb rw
45 44 0:45 / /twice rw - fuse.sshfs u@h: rw
46 27 254:0 /var/lib/docker/volumes/v/_data /data rw - ext4 /dev/vda rw
47 27 0:47 / /bound rw - xfs /dev/vdc rw
48 47 0:47 /sub /bound/sub rw - xfs /dev/vdc rw
`

func TestHolding(t *testing.T) {
	all, err := parseMounts(table)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]uint64{
		"/": 27, "/etc": 27, "/proc/self": 22, "/srv": 40, "/srv/a/b": 40, "/srv/local": 41, "/srv/local/a": 41,
		"/srv/localhost": 40, "/srvice": 42, "/srvices": 27, "/with space/a": 43, "/with": 27,
		"/twice/a": 45, "/data/sub": 46, "/bound/sub": 48, "/bound/su": 47,
	} {
		if m, ok := holding(all, path); !ok || m.id != want {
			t.Errorf("%s is on %+v, want %d", path, m, want)
		}
	}
	if m, ok := holding(all[2:3], "/etc"); ok {
		t.Errorf("outside of every mount: %+v", m)
	}
}

// A kernel that does not number its mounts leaves the path to go by.
func TestMountByPath_followsLinksAndDots(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/proc/self", link); err != nil {
		t.Fatal(err)
	}
	all := []mount{{id: 1, point: "/"}, {id: 2, point: "/proc"}}
	for path, want := range map[string]uint64{link: 2, link + "/../self": 2, dir: 1, "/proc/..": 1} {
		if m, err := mountByPath(all, path); err != nil || m.id != want {
			t.Errorf("%s is on %+v, %v", path, m, err)
		}
	}
	t.Chdir("/proc")
	if m, err := mountByPath(all, "."); err != nil || m.id != 2 {
		t.Errorf("the working directory is on %+v, %v", m, err)
	}
}

func TestMountID(t *testing.T) {
	d, err := os.Open("/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m, err := mountOf("/proc")
	if id, ok := mountID(d); err != nil || ok && id != m.id || !ok && kernelNumbersMounts(t, d) {
		t.Errorf("/proc is on mount %d (%v), by its table %+v, %v", id, ok, m, err)
	}
}

// kernelNumbersMounts reports whether the kernel says in fdinfo which mount a file is on.
func kernelNumbersMounts(t testing.TB, f *os.File) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(text), "mnt_id:")
}

// Here both ways to find a mount are at hand, so they must agree.
func TestMountOf_agreesWithThePath(t *testing.T) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	all, err := parseMounts(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{t.TempDir(), "/", "/proc", "/dev/shm", "/sys"} {
		byNumber, err := mountOf(dir)
		if err != nil {
			t.Fatal(err)
		}
		if byPath, err := mountByPath(all, dir); err != nil || byPath.id != byNumber.id {
			t.Errorf("%s is on %+v by its path and %+v by its number, %v", dir, byPath, byNumber, err)
		}
	}
}

// Whatever the table, what is read of it can be written in its form and read again.
func FuzzParseMounts(f *testing.F) {
	f.Add(table)
	for _, row := range rows {
		f.Add(row.line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseMounts(text)
		if err != nil {
			return
		}
		for _, m := range all {
			again, ok := parseMount(lineOf(m))
			if !ok || again.point != m.point || again.kind != m.kind || again.source != m.source || again.id != m.id {
				t.Fatalf("%+v became %+v, %v", m, again, ok)
			}
			if held, ok := holding(all, m.point); !ok || len(held.point) < len(m.point) {
				t.Fatalf("%q is on %+v", m.point, held)
			}
			_ = kindOf("/v", m)
		}
	})
}

func lineOf(m mount) string {
	return fmt.Sprintf("%d 1 0:1 / %s rw - %s %s rw", m.id, escape(m.point), escape(m.kind), escape(m.source))
}

// escape is what the kernel does, for every byte.
func escape(name string) string {
	var line strings.Builder
	for _, b := range []byte(name) {
		fmt.Fprintf(&line, `\%03o`, b)
	}
	return line.String()
}
