package writer

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// trusted are the file systems whose flock excludes all processes of the host and
// which no second host can have mounted at the same time.
var trusted = map[int64]string{
	unix.EXT4_SUPER_MAGIC:      "ext4",
	unix.XFS_SUPER_MAGIC:       "xfs",
	unix.BTRFS_SUPER_MAGIC:     "btrfs",
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.RAMFS_MAGIC:           "ramfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	unix.F2FS_SUPER_MAGIC:      "f2fs",
	0x2fc12fc1:                 "zfs",
	0xca451a4e:                 "bcachefs",
}

// distrusted are named in the refusal, for people to recognise.
var distrusted = map[int64]string{
	unix.NFS_SUPER_MAGIC:  "NFS",
	unix.SMB_SUPER_MAGIC:  "SMB",
	unix.SMB2_SUPER_MAGIC: "SMB",
	unix.CIFS_SUPER_MAGIC: "SMB",
	unix.V9FS_MAGIC:       "9p",
	unix.FUSE_SUPER_MAGIC: "FUSE (also virtiofs and Docker Desktop's bind mounts)",
	unix.CEPH_SUPER_MAGIC: "Ceph",
	0x6a656a63:            "grpcfuse",
	0x01161970:            "GFS2",
	0x7461636f:            "OCFS2",
}

// Kind names the file system of a directory, and tells whether its flock is known to
// keep every other process out, and other machines with it.
func Kind(dir string) (name string, isTrusted bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", false, &os.PathError{Op: "look at the directory", Path: dir, Err: err}
	}
	magic := int64(st.Type)
	if name := trusted[magic]; name != "" {
		return name, true, nil
	}
	if name := distrusted[magic]; name != "" {
		return name, false, nil
	}
	return fmt.Sprintf("of an unknown kind (0x%x)", magic), false, nil
}

// checkVolume refuses a directory whose file system may grant a flock twice.
func checkVolume(dir string) error {
	name, isTrusted, err := Kind(dir)
	if err != nil || isTrusted {
		return err
	}
	return &RefusedError{
		fmt.Sprintf("the file system of %s is %s, where a lock is not promised to keep others out", dir, name),
		"put data.file on a local file system (ext4, xfs, btrfs, tmpfs, overlay, zfs) or a Docker named volume; `agent check-volume` says more",
	}
}
