package fleet

import "errors"

// markers are an agent's lives as its queue.Life has them: who sweeps them for an agent
// knows all whose markers stand beside the file, for they are listed under agents/. Those
// who only share the directory, as an auditor does, do not, and leave plain files alone.
//
// An auditor's own plain marker may go: nobody looks for it.
type markers struct{ Lives }

// Sweep forgets the dead, by their FIFOs and, where there are none, by their markers' age.
func (m markers) Sweep(keep func() ([]string, error)) error {
	return errors.Join(m.Lives.Sweep(keep), m.SweepMarkers(keep))
}
