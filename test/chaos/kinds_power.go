package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// powerLoss: row 13. Nobody survives, and of the volume only what was synced and some
// sectors of what was not.
func powerLoss(r *round) error {
	r.disk = &disk{volume: filepath.Dir(r.data()), dir: filepath.Join(r.dir, "disk")}
	if err := os.MkdirAll(r.disk.dir, 0o755); err != nil {
		return err
	}
	if err := r.working(4, 0); err != nil {
		return err
	}
	for range 4 {
		if err := r.outage(); err != nil {
			return err
		}
		if err := r.backAtWork(3); err != nil {
			return err
		}
	}
	return nil
}

func (r *round) outage() error {
	if r.rng.IntN(2) == 0 { // somebody is in the middle of writing
		if err := r.leaveTurn(); err != nil {
			return err
		}
	} else if err := r.moment(50 * time.Millisecond); err != nil {
		return err
	}
	for _, p := range r.live() {
		p.kill()
	}
	before, err := os.Stat(r.data())
	if err != nil {
		return err
	}
	if err := r.disk.powerLoss(r.data(), r.rng); err != nil {
		return fmt.Errorf("power loss: %w", err)
	}
	after, err := os.Stat(r.data())
	if err != nil {
		return err
	}
	if before.Size() > after.Size() {
		r.fire("power loss, bytes lost")
	} else {
		r.fire("power loss")
	}
	return nil
}
