package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// careless are mount options that let a sync return before the disk has the data.
var careless = []string{"volatile", "fsync=volatile", "nobarrier", "barrier=0", "fsync_mode=nobarrier"}

// fileSystem finds out what the directory is on, and so in which mode the rest is tried.
func (c *checker) fileSystem(_ context.Context, r *Report) (Finding, error) {
	m, err := c.mount(c.work)
	if err != nil {
		return Finding{}, err
	}
	f, k, err := c.judgeMount(m)
	if c.mode = k.Mode; c.mode == "" {
		c.mode = Plain
	}
	r.FileSystem, r.Mode = k.Type, k.Mode
	return f, err
}

func (c *checker) judgeMount(m mount) (Finding, Kind, error) {
	own := kindOf(c.Dir, m)
	k, err := own.Resolve(c.Volume)
	if refused := (*writer.RefusedError)(nil); errors.As(err, &refused) {
		return c.judgeRefused(k), k, nil
	}
	if err != nil {
		return Finding{}, k, err
	}
	name := fmt.Sprintf("%s on %s, mounted at %s", m.kind, m.source, m.point)
	if k.Mode != own.Mode {
		return warning(fmt.Sprintf("%s: tried as %s on your word", name, k.Mode),
			"what the cache of another machine does is not tried here"), k, nil
	}
	for _, option := range m.options {
		if slices.Contains(careless, option) {
			return warning(fmt.Sprintf("%s with %q: a sync does not wait for the disk", name, option),
				fmt.Sprintf("acknowledged records may be gone after a power loss: mount %s without it", m.point)), k, nil
		}
	}
	if k.OneKernel {
		return ok("%s: local to this machine", name), k, nil
	}
	return ok("%s: for agents of several machines, written as %s", name, k.Mode), k, nil
}

func (c *checker) judgeRefused(k Kind) Finding {
	if k.hopeless {
		return failed(k.Why, k.Next)
	}
	return failed(k.Why+"; tried as plain all the same",
		"agents refuse it unless told: try --volume plain, direct or sync; what holds goes for agents and readers of this machine")
}
