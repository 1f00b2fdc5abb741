package volume

// modes are the kinds of file system that agents may use without being told, by the
// names that mountinfo has for them. docs/volumes.md has the reasons.
var modes = map[string]Mode{
	"bcachefs": Plain, "btrfs": Plain, "ext2": Plain, "ext3": Plain, "ext4": Plain, "f2fs": Plain,
	"jfs": Plain, "nilfs2": Plain, "overlay": Plain, "ramfs": Plain, "reiserfs": Plain,
	"rootfs": Plain, "tmpfs": Plain, "xfs": Plain, "zfs": Plain,

	"ceph": Direct, "cifs": Direct, "nfs": Direct, "nfs4": Direct, "smb3": Direct, "smbfs": Direct,

	"fuse.glusterfs": Sync, "glusterfs": Sync,
}

// buckets are object stores that are mounted as if they were file systems, by their FUSE
// type, or where they have none by the name that they give as the source.
var buckets = map[string]bool{
	"blobfuse": true, "blobfuse2": true, "gcsfuse": true, "goofys": true, "mount-s3": true,
	"mountpoint-s3": true, "rclone": true, "s3fs": true,
}

const (
	hostFolder = "it is the host's folder in a virtual machine, whose caches differ from the host's"
	desktop    = "it is a bind mount of Docker Desktop, whose caches differ from the host's"
	cluster    = "several machines have it mounted, and it was never measured here"
)

// refused are kinds of which more can be said than that they are unknown.
var refused = map[string]string{
	"9p": hostFolder, "hgfs": hostFolder, "prl_fs": hostFolder, "vboxsf": hostFolder, "virtiofs": hostFolder,
	"fuse.vmhgfs-fuse": hostFolder,

	"fakeowner": desktop, "fuse.grpcfuse": desktop, "fuse.osxfs": desktop, "grpcfuse": desktop, "osxfs": desktop,

	"gfs2": cluster, "gpfs": cluster, "lustre": cluster, "ocfs2": cluster,
}
