// Guest is the first process of a machine of the lab, and all that runs there beside the
// agents: it brings the machine up and does what the lab says.
//
// The kernel's command line tells the machine what it is: role is S for the server of the
// volume and a letter else, lan its address there, lease the server's lease in seconds.
package main

import (
	"fmt"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/test/netlab/wire"
)

// clients are the machines that the server has a cable to, in the order of its devices.
var clients = []string{"10.9.0.2", "10.9.0.3", "10.9.0.4"}

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: the first process of a machine of the lab; scripts/netlab.sh starts those")
		os.Exit(2)
	}
	fmt.Println("GUEST-FAILED", up())
	for { // the kernel panics when its first process ends
		time.Sleep(time.Hour)
	}
}

// up brings the machine up and serves the lab. It returns when that fails.
func up() error {
	for _, dir := range []string{"/proc", "/sys", "/dev", "/tmp", "/srv", "/disk"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for dir, kind := range map[string]string{"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs", "/tmp": "tmpfs"} {
		if err := unix.Mount(kind, dir, kind, 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	told, err := commandLine()
	if err != nil {
		return err
	}
	// NFS 4 takes the host's name for the client's identity: it must differ.
	if err := unix.Sethostname([]byte("machine-" + strings.ToLower(told["role"]))); err != nil {
		return err
	}
	if err := load("virtio_pci", "virtio_net"); err != nil {
		return err
	}
	if err := busybox("ifconfig", "lo", "127.0.0.1", "up"); err != nil {
		return err
	}
	if err := busybox("ifconfig", "eth0", "10.0.2.15", "netmask", "255.255.255.0", "up"); err != nil {
		return err
	}
	if told["role"] == "S" {
		err = serve(told)
	} else {
		err = beClient(told)
	}
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", wire.Port))
	if err != nil {
		return err
	}
	if err := rpc.Register(&Guest{processes: map[string]*process{}, files: map[string]*os.File{}}); err != nil {
		return err
	}
	fmt.Println("GUEST-UP", told["role"])
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go rpc.ServeConn(conn)
	}
}

func beClient(told map[string]string) error {
	if err := load("nfsv3", "nfsv4", "cifs", "cmac", "ccm", "gcm", "ctr", "ecb", "hmac", "sha256_generic", "sha512_generic",
		"aes_generic", "nls_utf8", "ghash_generic", "seqiv", "md5"); err != nil {
		return err
	}
	if err := busybox("ifconfig", "eth1", "10.8.0.15", "netmask", "255.255.255.0", "up"); err != nil {
		return err
	}
	return busybox("ifconfig", "eth2", told["lan"], "netmask", "255.255.255.0", "up")
}

func commandLine() (map[string]string, error) {
	line, err := os.ReadFile("/proc/cmdline")
	told := map[string]string{}
	for _, word := range strings.Fields(string(line)) {
		key, value, _ := strings.Cut(word, "=")
		told[key] = value
	}
	return told, err
}

// load loads modules with what they need, in the order that the lab wrote down.
func load(names ...string) error {
	for _, name := range names {
		list, err := os.ReadFile("/modules/" + name)
		if err != nil {
			return err
		}
		for _, module := range strings.Fields(string(list)) {
			f, err := os.Open("/modules/" + module + ".ko")
			if err != nil {
				return err
			}
			err = unix.FinitModule(int(f.Fd()), "", 0)
			f.Close()
			if err != nil && err != unix.EEXIST {
				return fmt.Errorf("module %s: %w", module, err)
			}
		}
	}
	return nil
}

func busybox(args ...string) error {
	said, err := exec.Command("/bin/busybox", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, said)
	}
	return nil
}

// tell writes one line to a file of the kernel's.
func tell(file, line string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(line + "\n"); err != nil {
		return fmt.Errorf("%q to %s: %w", line, file, err)
	}
	return nil
}

// forever is an expiry in the caches of the kernel's server.
func forever() string { return fmt.Sprint(time.Now().AddDate(1, 0, 0).Unix()) }
