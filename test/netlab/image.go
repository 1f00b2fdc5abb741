package main

import (
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// modules are the kernel modules that the machines load by name.
var modules = []string{
	"virtio_pci", "virtio_net", "virtio_blk", "ext4", "nfsd", "nfsv3", "nfsv4", "cifs",
	"cmac", "ccm", "gcm", "ctr", "ecb", "hmac", "sha256_generic", "sha512_generic", "aes_generic", "nls_utf8", "ghash_generic", "seqiv", "md5",
}

// makeImage writes the file system that a machine starts from: the guest as its first
// process, busybox, the agent, and the modules with a list of each one's order.
func makeImage(to, moduleDir string, programs map[string]string) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return err
	}
	a := &archive{z: z}
	for _, dir := range []string{"bin", "modules", "proc", "sys", "dev", "tmp", "srv", "disk"} {
		a.add(dir, 0o040755, nil)
	}
	for name, from := range programs {
		text, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		a.add(name, 0o100755, text)
	}
	found, err := findModules(moduleDir)
	if err != nil {
		return err
	}
	packed := map[string]bool{}
	for _, name := range modules {
		order, err := found.order(name)
		if err != nil {
			return err
		}
		a.add("modules/"+name, 0o100644, []byte(strings.Join(order, "\n")))
		for _, module := range order {
			if packed[module] {
				continue
			}
			packed[module] = true
			text, err := os.ReadFile(found.files[module])
			if err != nil {
				return err
			}
			a.add("modules/"+module+".ko", 0o100644, text)
		}
	}
	a.add("TRAILER!!!", 0, nil)
	return errors.Join(a.err, z.Close())
}

// archive writes the cpio format "newc" that the kernel unpacks.
type archive struct {
	z   *gzip.Writer
	ino int
	err error
}

func (a *archive) add(name string, mode int, text []byte) {
	a.ino++
	a.write(fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.ino, mode, 0, 0, 1, 0, len(text), 0, 0, 0, 0, len(name)+1, 0, name))
	a.write(text)
}

// write writes, up to a multiple of four bytes.
func (a *archive) write(b []byte) {
	if a.err == nil {
		_, a.err = a.z.Write(append(slices.Clip(b), make([]byte, -len(b)&3)...))
	}
}

type moduleSet struct {
	files   map[string]string // where a module's file is, by its name
	builtin string            // the list of those that the kernel has in itself
}

func findModules(dir string) (moduleSet, error) {
	set := moduleSet{files: map[string]string{}}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return set, err
	}
	set.builtin = strings.ReplaceAll(string(list), "-", "_")
	return set, filepath.WalkDir(dir, func(file string, _ fs.DirEntry, err error) error {
		if name, is := strings.CutSuffix(path.Base(file), ".ko"); is {
			set.files[strings.ReplaceAll(name, "-", "_")] = file
		}
		return err
	})
}

// order lists a module after all that it needs. It is empty for what is built in.
func (s moduleSet) order(name string) (list []string, err error) {
	name = strings.ReplaceAll(name, "-", "_")
	file, ok := s.files[name]
	switch {
	case !ok && strings.Contains(s.builtin, "/"+name+".ko"):
		return nil, nil
	case !ok:
		return nil, fmt.Errorf("the kernel has no module %s", name)
	}
	object, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer object.Close()
	info, err := object.Section(".modinfo").Data()
	if err != nil {
		return nil, err
	}
	for _, entry := range strings.Split(string(info), "\x00") {
		needs, is := strings.CutPrefix(entry, "depends=")
		if !is || needs == "" {
			continue
		}
		for _, need := range strings.Split(needs, ",") {
			before, err := s.order(need)
			if err != nil {
				return nil, err
			}
			for _, m := range before {
				if !slices.Contains(list, m) {
					list = append(list, m)
				}
			}
		}
	}
	return append(list, name), nil
}
