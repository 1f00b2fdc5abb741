package volume

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// Each line is one that a kernel wrote, or has the form of one; addresses are changed.
var rows = []struct {
	line  string
	mode  Mode
	chunk int
	why   string // "" is used without being told
}{
	{"27 1 254:0 / /v rw,relatime - ext4 /dev/vda rw,discard,resuid=65534", Plain, 0, ""},
	{"36 35 98:0 /root /v rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue", Plain, 0, ""},
	{"30 28 8:2 / /v rw - ext2 /dev/sda2 rw", Plain, 0, ""},
	{"61 27 259:3 / /v rw,relatime shared:33 - xfs /dev/nvme0n1p3 rw,attr2,inode64,logbufs=8,noquota", Plain, 0, ""},
	{"62 27 0:30 /@home /v rw,relatime shared:34 - btrfs /dev/sdb1 rw,ssd,space_cache=v2,subvolid=257,subvol=/@home", Plain, 0, ""},
	{"63 27 0:31 / /v rw,noatime shared:35 - zfs tank/data rw,xattr,noacl", Plain, 0, ""},
	{"64 27 179:2 / /v rw - f2fs /dev/mmcblk0p2 rw,background_gc=on", Plain, 0, ""},
	{"25 24 0:23 / /v rw,nosuid - tmpfs tmpfs rw,size=24684084k", Plain, 0, ""},
	{"26 24 0:24 / /v rw -  ramfs rw", "", 0, "does not list"}, // the kind is empty, not ramfs
	{"26 24 0:24 / /v rw - ramfs  rw", Plain, 0, ""},           // the source is empty
	{"1 1 0:2 / /v rw - rootfs rootfs rw", Plain, 0, ""},
	{"700 600 0:60 / /v rw,relatime - overlay overlay rw,lowerdir=/l/1:/l/2,upperdir=/u/1,workdir=/w/1", Plain, 0, ""},
	{"65 27 0:33 / /v rw - bcachefs /dev/sdc:/dev/sdd rw", Plain, 0, ""},
	{"66 27 8:3 / /v rw - jfs /dev/sda3 rw", Plain, 0, ""},
	{"66 27 8:3 / /v rw - reiserfs /dev/sda3 rw", Plain, 0, ""},
	{"66 27 8:3 / /v rw - nilfs2 /dev/sda3 rw", Plain, 0, ""},

	{"90 27 0:50 / /v rw,relatime - nfs4 10.9.0.1:/ rw,vers=4.2,rsize=65536,wsize=32768,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,clientaddr=10.9.0.2,local_lock=none,addr=10.9.0.1", Direct, 32768, ""},
	{"90 27 0:50 / /v rw,relatime shared:50 - nfs 10.9.0.1:/srv rw,vers=3,rsize=1048576,wsize=1048576,namlen=255,hard,proto=tcp,mountproto=udp,local_lock=none,addr=10.9.0.1", Direct, 1 << 20, ""},
	{"91 27 0:51 / /v rw,relatime shared:51 - nfs4 127.0.0.1:/ rw,vers=4.1,rsize=1048576,wsize=1048576,namlen=255,hard,noresvport,proto=tcp,port=20449", Direct, 1 << 20, ""},
	{"92 27 0:52 / /v rw,relatime shared:52 - cifs //10.9.0.1/share rw,vers=3.1.1,cache=strict,username=u,uid=0,file_mode=0755,soft,nounix,mapposix,rsize=4194304,wsize=4194304,bsize=1048576", Direct, 4194304, ""},
	{"92 27 0:52 / /v rw - smb3 //10.9.0.1/share rw,vers=3.1.1,wsize=65536", Direct, 65536, ""},
	{"92 27 0:52 / /v rw - smbfs //10.9.0.1/share rw", Direct, 0, ""},
	{"93 27 0:53 / /v rw,relatime shared:53 - ceph 10.9.0.1:6789:/ rw,name=admin,secret=<hidden>,acl", Direct, 0, ""},
	{"94 27 0:54 / /v rw,relatime shared:54 - fuse.glusterfs 10.9.0.1:/gv0 rw,user_id=0,group_id=0,default_permissions,allow_other,max_read=131072", Sync, 0, ""},
	{"94 27 0:54 / /v rw - glusterfs 10.9.0.1:/gv0 rw", Sync, 0, ""},
	{"90 27 0:50 / /v rw - nfs4 10.9.0.1:/ rw,wsize=many", Direct, 0, ""},
	{"90 27 0:50 / /v rw - nfs4 10.9.0.1:/ rw,wsize=-1", Direct, 0, ""},

	{"95 27 0:55 / /v rw,relatime - virtiofs mac rw", "", 0, "host's folder"},
	{"95 27 0:55 /Users /v rw,relatime - virtiofs virtiofs0 rw", "", 0, "host's folder"},
	{`95 27 0:55 / /v rw,noatime - 9p C:\134 rw,dirsync,aname=drvfs;path=C:\134,mmap,access=client,msize=65536,trans=fd`, "", 0, "host's folder"},
	{"95 27 0:55 / /v rw - vboxsf share rw", "", 0, "host's folder"},
	{"95 27 0:55 / /v rw - hgfs .host:/ rw", "", 0, "host's folder"},
	{"96 27 0:56 /Users/u/p /v rw,relatime - fakeowner /run/host_mark/Users rw,fakeowner", "", 0, "Docker Desktop"},
	{"96 27 0:56 /u/p /v rw,nosuid,nodev,relatime - fuse.grpcfuse grpcfuse rw,user_id=0,group_id=0,allow_other,max_read=1048576", "", 0, "Docker Desktop"},
	{"97 27 253:5 / /v rw - gfs2 /dev/mapper/vg-lv rw", "", 0, "several machines"},
	{"97 27 8:17 / /v rw - ocfs2 /dev/sdb1 rw,_netdev,heartbeat=local", "", 0, "several machines"},
	{"98 27 0:57 / /v rw,nosuid,nodev - fuse.sshfs u@h:/d rw,user_id=1000,group_id=1000", "", 0, "FUSE"},
	{"98 27 8:33 / /v rw - fuseblk /dev/sdc1 rw,user_id=0,group_id=0,blksize=4096", "", 0, "FUSE"},
	{"98 27 0:57 / /v rw - fuse bucket rw,user_id=0", "", 0, "FUSE"},
	{"99 27 8:49 / /v rw - vfat /dev/sdd1 rw,fmask=0022", "", 0, "nothing is known"},
	{"99 27 0:61 / /v rw - afs AFS rw", "", 0, "nothing is known"},
}

// stores are refused whatever the operator says.
var stores = []string{
	"99 27 0:58 / /v rw,nosuid,nodev,relatime - fuse.s3fs s3fs rw,user_id=0,group_id=0",
	"99 27 0:58 / /v rw - fuse.goofys bucket rw,user_id=0",
	"99 27 0:58 / /v rw,nosuid,nodev,noatime - fuse mountpoint-s3 rw,user_id=1000,group_id=1000,default_permissions",
	"99 27 0:58 / /v rw - fuse.mountpoint-s3 mountpoint-s3 rw",
	"99 27 0:58 / /v rw - fuse.mount-s3 bucket rw",
	"99 27 0:58 / /v rw,nosuid,nodev,relatime - fuse.rclone remote:dir rw,user_id=1000",
	"99 27 0:58 / /v rw,nosuid,nodev,relatime - fuse.gcsfuse bucket rw,user_id=1000",
	"99 27 0:58 / /v rw - fuse.blobfuse blobfuse rw",
	"99 27 0:58 / /v rw - fuse blobfuse2 rw",
}

func kindOfLine(t testing.TB, line string) Kind {
	t.Helper()
	m, ok := parseMount(line)
	if !ok {
		t.Fatalf("not read: %s", line)
	}
	return kindOf("/v/dir", m)
}

func TestKindOf_everyRow(t *testing.T) {
	for _, row := range rows {
		k := kindOfLine(t, row.line)
		if k.Mode != row.mode || k.Chunk != row.chunk || k.Mount != "/v" || k.OneKernel != (row.mode == Plain) {
			t.Errorf("%s\nis %+v", row.line, k)
		}
		if (k.Why == "") != (row.why == "") || !strings.Contains(k.Why, row.why) || (k.Next == "") != (row.why == "") {
			t.Errorf("%s\nis refused because %q, next %q", row.line, k.Why, k.Next)
		}
	}
}

func TestResolve_autoTakesTheKindsOwnModeOrRefuses(t *testing.T) {
	for _, row := range rows {
		k := kindOfLine(t, row.line)
		got, err := k.Resolve(Auto)
		var refused *writer.RefusedError
		if row.why == "" {
			if err != nil || got != k {
				t.Errorf("%s: %+v, %v", k.Type, got, err)
			}
			continue
		}
		if !errors.As(err, &refused) {
			t.Errorf("%s: %+v, %v", k.Type, got, err)
			continue
		}
		for _, want := range []string{"/v", k.Type, "agent check-volume /v/dir", "data.volume"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", k.Type, err, want)
			}
		}
	}
}

func TestResolve_theOperatorsWordWins(t *testing.T) {
	for _, row := range rows {
		for _, mode := range []Mode{Plain, Direct, Sync} {
			k := kindOfLine(t, row.line)
			got, err := k.Resolve(string(mode))
			if err != nil || got.Mode != mode || got.Why != "" || got.Next != "" || got.Chunk != k.Chunk || got.OneKernel != k.OneKernel {
				t.Errorf("%s, %s: %+v, %v", k.Type, mode, got, err)
			}
		}
	}
}

func TestResolve_nobodyCanVouchForAnObjectStore(t *testing.T) {
	for _, line := range stores {
		k := kindOfLine(t, line)
		for _, setting := range []string{Auto, "plain", "direct", "sync"} {
			_, err := k.Resolve(setting)
			var refused *writer.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(refused.Why, "no writes by position") || strings.Contains(refused.Next, "data.volume") {
				t.Errorf("%s, %s: %v", line, setting, err)
			}
		}
	}
}

func TestResolve_anUnknownSettingIsNoRefusal(t *testing.T) {
	_, err := Kind{Mode: Plain}.Resolve("fast")
	if err == nil || errors.Is(err, writer.ErrRefused) || !strings.Contains(err.Error(), "auto, plain, direct or sync") {
		t.Errorf("%v", err)
	}
}

func TestKindOf_aVolumeThatMountinfoDoesNotList(t *testing.T) {
	k := kindOf("/v", mount{})
	if _, err := k.Resolve(Auto); !errors.Is(err, writer.ErrRefused) || !strings.Contains(err.Error(), "does not list") {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestOf(t *testing.T) {
	proc, err := Of("/proc/self")
	if err != nil || proc.Type != "proc" || proc.Mount != "/proc" || proc.Mode != "" {
		t.Errorf("/proc/self is on %+v, %v", proc, err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/proc/self", link); err != nil {
		t.Fatal(err)
	}
	if k, err := Of(link); err != nil || k.Type != "proc" {
		t.Errorf("through a link: %+v, %v", k, err)
	}
	if _, err := Of(link + "/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is none: %v", err)
	}
}
