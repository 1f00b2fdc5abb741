package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// syncFails: row 11. The disk does not confirm: the turn is not acknowledged, and the
// whole fleet halts until a person resumes it.
func syncFails(r *round) error {
	r.timeout = calmTimeout
	if err := r.man(4, 0); err != nil {
		return err
	}
	if err := r.warm(); err != nil {
		return err
	}
	for i := range 3 {
		point := failpoint{Name: r.pick([]string{"data.datasync.before", "data.datasync.after"}), Nth: 1 + r.rng.IntN(3), Action: actEIO}
		var p *proc
		var err error
		if i == 2 { // the sync after a cut
			point = failpoint{Name: r.pick([]string{"data.sync.before", "data.sync.after"}), Action: actEIO}
			if p, _, err = r.finder(point); err != nil {
				return err
			}
		} else {
			if p, err = r.anyChild(); err != nil {
				return err
			}
			if err := p.arm(r.ctx, point); err != nil {
				return err
			}
			if _, err := r.fires(p); err != nil {
				return err
			}
		}
		head, err := r.head()
		if err != nil {
			return err
		}
		for _, o := range r.live() {
			if err := o.mustExit(r.ctx, exitHalted, ""); err != nil {
				return err
			}
		}
		now, err := r.head()
		if err != nil {
			return err
		}
		if now.Turn != head.Turn {
			return fmt.Errorf("turn %d was committed after %s had to halt the fleet at turn %d", now.Turn, p.id, head.Turn)
		}
		if out, err := r.mustAgent("status"); err != nil || !contains(out, "HALTED") {
			return errors.Join(err, fmt.Errorf("agent status does not say that the fleet is halted: %s", out))
		}
		if _, err := r.mustAgent("resume"); err != nil {
			return err
		}
		if err := r.revive(); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

// appendFails: row 12. Whoever cannot write says so and ends; nothing of it counts.
func appendFails(r *round) error {
	r.timeout = calmTimeout
	if err := r.man(3, 1); err != nil {
		return err
	}
	if err := r.warm(); err != nil {
		return err
	}
	for range 5 {
		p, err := r.anyChild()
		if err != nil {
			return err
		}
		point := failpoint{
			Name:   r.pick([]string{"data.write.before", "data.write.torn", "data.write.torn", "data.write.after", "fence.write.before"}),
			Nth:    1 + r.rng.IntN(3),
			Action: r.pick([]string{actEIO, actENOSPC, actShort}),
		}
		if err := p.arm(r.ctx, point); err != nil {
			return err
		}
		if _, err := r.fires(p); err != nil {
			return err
		}
		if err := p.mustExit(r.ctx, exitFailed, said(point)); err != nil {
			return err
		}
		if err := r.revive(); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

// said is what an agent's last words must hold after an error.
func said(point failpoint) string {
	switch point.Action {
	case actENOSPC:
		return "no space left on device"
	case actEIO:
		return "input/output error"
	}
	return "short write"
}

// quarantineFails: row 12. What cannot be put aside is not cut off.
func quarantineFails(r *round) error {
	r.timeout = calmTimeout
	if err := r.man(4, 0); err != nil {
		return err
	}
	if err := r.warm(); err != nil {
		return err
	}
	for range 3 {
		point := failpoint{
			Name:   r.pick([]string{"orphan.open.before", "orphan.write.before", "orphan.write.torn", "orphan.sync.before", "orphan.sync.after", "dir.sync.before"}),
			Action: r.pick([]string{actEIO, actENOSPC, actShort}),
		}
		_, first, err := r.finder(point)
		if err != nil {
			return err
		}
		before, err := whole(r.data())
		if err != nil {
			return err
		}
		// The tail stays for whoever comes next, at whom the same fails.
		for i, p := range r.live() {
			if err := p.mustExit(r.ctx, exitFailed, "nothing was cut"); err != nil {
				return err
			}
			if i > 0 {
				r.fire(first.Point + " " + first.Action)
			}
		}
		if err := unchanged(r.data(), before); err != nil {
			return err
		}
		if err := r.revive(); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

// tmpfsFull: row 12. A volume of 1 MiB that is really full.
func tmpfsFull(r *round) error {
	volume := filepath.Dir(r.data())
	if err := syscall.Mount("chaos", volume, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	r.cleanup(func() { _ = syscall.Unmount(volume, syscall.MNT_DETACH) }) // or with our mount namespace
	r.rest, r.records = 0, 20
	if err := r.man(0, 3); err != nil {
		return err
	}
	for size := 2; size <= 3; size++ {
		for _, p := range r.live() {
			if err := p.mustFill(r); err != nil {
				return err
			}
		}
		r.fire("a full tmpfs")
		if err := syscall.Mount("chaos", volume, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%dm", size)); err != nil {
			return fmt.Errorf("make room on the tmpfs: %w", err)
		}
		if err := r.revive(); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

// mustFill waits until the volume is full and the agent has said so.
func (p *proc) mustFill(r *round) error {
	p.leaving = true
	code, err := p.exits(r.ctx, 2*time.Minute)
	if err != nil {
		return orRejected(err)
	}
	if code != exitFailed || !p.said(0, "no space left on device") {
		return fmt.Errorf("%s ended with %d on a full volume; the end of its log: %s", p.id, code, p.lastWords())
	}
	return nil
}

// clockJumps: row 16. The wall clock of an agent is an hour off, either way, and again.
func clockJumps(r *round) error {
	if err := r.man(3, 1); err != nil {
		return err
	}
	if err := r.warm(); err != nil {
		return err
	}
	off := map[*proc]time.Duration{}
	for range 5 {
		p, err := r.anyChild()
		if err != nil {
			return err
		}
		hours := []time.Duration{-time.Hour, time.Hour}[r.rng.IntN(2)]
		if hours == off[p] {
			hours = -hours // two hours at once
		}
		off[p] = hours
		if err := p.order(r.ctx, order{Do: "clock", Clock: hours}); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
		r.fire(fmt.Sprintf("clock %+.0fh", hours.Hours()))
	}
	return r.timesTell()
}

// timesTell makes sure that the clocks really were off: frames carry their times.
func (r *round) timesTell() error {
	data, err := os.ReadFile(r.data())
	if err != nil {
		return err
	}
	off := time.Now().UTC()
	for _, hours := range []time.Duration{-1, 1} {
		stamp := " at=" + off.Add(hours*time.Hour).Format("2006-01-02T15:")
		if contains(string(data), stamp) {
			return nil
		}
	}
	if off.Minute() == 0 { // the hour changed under us
		return nil
	}
	return rejected("no frame has a time that is off")
}
