package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const export = "/disk/export"

// serve makes the machine the server of the volume: the kernel's NFS server on ext4.
func serve(told map[string]string) error {
	for i, client := range clients {
		device := fmt.Sprintf("eth%d", i+1)
		if err := busybox("ifconfig", device, told["lan"], "netmask", "255.255.255.255", "up"); err != nil {
			return err
		}
		if err := busybox("route", "add", "-host", client, "dev", device); err != nil {
			return err
		}
	}
	if err := load("virtio_blk", "ext4", "nfsd"); err != nil {
		return err
	}
	if err := unix.Mount("/dev/vda", "/disk", "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount the disk: %w", err)
	}
	for _, dir := range []string{export, export + "/one", export + "/two", "/disk/recovery"} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
	}
	if err := unix.Mount("nfsd", "/proc/fs/nfsd", "nfsd", 0, ""); err != nil {
		return fmt.Errorf("mount nfsd: %w", err)
	}
	for file, line := range map[string]string{
		"versions": "-2 +3 +4 +4.1 +4.2", "nfsv4recoverydir": "/disk/recovery",
		"nfsv4leasetime": told["lease"], "nfsv4gracetime": told["lease"],
	} {
		if err := tell("/proc/fs/nfsd/"+file, line); err != nil {
			return err
		}
	}
	return errors.Join(portmapper(), mountd(), share())
}

// share starts the server. There is no rpc.mountd for the kernel to ask who may mount
// what: it is told beforehand.
func share() error {
	const flags = 0x2000 | 0x400 | 0x2 // fsid, no_subtree_check, insecure; with sync and no_root_squash
	for _, client := range clients {
		if err := tell("/proc/net/rpc/auth.unix.ip/channel", fmt.Sprintf("nfsd %s %s lab", client, forever())); err != nil {
			return err
		}
	}
	for _, line := range [][2]string{
		{"/proc/net/rpc/auth.unix.gid/channel", fmt.Sprintf("0 %s 0 ", forever())},
		{"/proc/net/rpc/nfsd.export/channel", fmt.Sprintf("lab %s %s %d 65534 65534 0", export, forever(), flags)},
		{"/proc/net/rpc/nfsd.fh/channel", fmt.Sprintf(`lab 1 \x00000000 %s %s`, forever(), export)},
		{"/proc/fs/nfsd/threads", "8"},
	} {
		if err := tell(line[0], line[1]); err != nil {
			return err
		}
	}
	return nil
}
