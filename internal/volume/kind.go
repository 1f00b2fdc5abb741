package volume

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// The modes, as package writer knows them.
const (
	Plain  = writer.Plain
	Direct = writer.Direct
	Sync   = writer.Sync
)

// Mode says how a volume's files are opened, see [writer.Mode].
type Mode = writer.Mode

// Auto is the setting that leaves the mode to the volume's kind.
const Auto = "auto"

// Kind is what is known of a directory's volume before anything is tried on it.
type Kind struct {
	Type  string // as mountinfo names it: ext4, nfs4, cifs, fuse.s3fs; "" when it has no line
	Mount string // its mount point
	Mode  Mode   // how it is written; empty when refused
	// Chunk is the most bytes of one write, which the server would split otherwise;
	// 0 is no bound.
	Chunk int
	// OneKernel says that it is a local file system: one page cache sees all of it.
	OneKernel bool
	// Why and Next say, of a volume that is refused, what is wrong with it and what to
	// do next; they are empty otherwise.
	Why, Next string

	hopeless bool // refused though the operator vouches for it
}

// Of tells which kind of volume dir is on. The error says that dir could not be looked
// at; a volume that is refused is no error yet, see [Kind.Resolve].
func Of(dir string) (Kind, error) {
	m, err := mountOf(dir)
	if err != nil {
		return Kind{}, err
	}
	return kindOf(dir, m), nil
}

// Resolve applies the setting data.volume: [Auto] takes the kind as it is, a [Mode] is
// the operator's word for it. The error is a [*writer.RefusedError] when the volume is
// refused; a volume that has no positional writes is refused whatever the setting.
func (k Kind) Resolve(setting string) (Kind, error) {
	mode := Mode(setting)
	switch {
	case setting != Auto && mode != Plain && mode != Direct && mode != Sync:
		return k, fmt.Errorf("data.volume %q: choose auto, plain, direct or sync", setting)
	case k.Why != "" && (k.hopeless || setting == Auto):
		return k, &writer.RefusedError{Why: k.Why, Next: k.Next}
	case setting != Auto:
		k.Mode, k.Why, k.Next = mode, "", ""
	}
	return k, nil
}

// SMB tells whether the volume is an SMB server's, where a reconnect opens files again by
// their path.
func (k Kind) SMB() bool { return k.Type == "cifs" || k.Type == "smb3" || k.Type == "smbfs" }

// kindOf judges the mount that dir is on by the table in kinds.go.
func kindOf(dir string, m mount) Kind {
	k := Kind{Type: m.kind, Mount: m.point, Mode: modes[m.kind]}
	k.OneKernel = k.Mode == Plain
	// Only a sensible number bounds anything.
	if n, err := strconv.Atoi(m.option("wsize")); err == nil && n > 0 {
		k.Chunk = n
	}
	if k.Mode != "" {
		return k
	}
	why, hopeless := refusal(m)
	k.hopeless = hopeless
	k.Why = fmt.Sprintf("%s is on a volume of kind %s, mounted at %s: %s", dir, m.kind, m.point, why)
	if m.kind == "" {
		k.Why = fmt.Sprintf("%s is on a volume that /proc/self/mountinfo does not list: %s", dir, why)
	}
	k.Next = nextOf(dir, hopeless)
	return k
}

const nextVolume = "put data.file on a local file system, NFS or SMB"

func nextOf(dir string, hopeless bool) string {
	if hopeless {
		return nextVolume
	}
	return fmt.Sprintf("%s; or find out with `agent check-volume %s`, then set data.volume (--volume) to vouch for it: "+
		"plain when all agents and readers are of one kernel, else direct or sync", nextVolume, dir)
}

// refusal says why a mount is refused, and whether nobody can vouch for it.
func refusal(m mount) (why string, hopeless bool) {
	name := strings.TrimPrefix(m.kind, "fuse.")
	if m.kind == "fuse" {
		name = filepath.Base(m.source) // some have no type of their own, but a name
	}
	switch {
	case buckets[name]:
		return "it has no writes by position, so turns would overwrite each other", true
	case refused[m.kind] != "":
		return refused[m.kind], false
	case m.kind == "fuse" || m.kind == "fuseblk" || strings.HasPrefix(m.kind, "fuse."):
		return "what a FUSE file system keeps in caches differs from one to the other", false
	}
	return "nothing is known of how it keeps writes of several agents apart", false
}
