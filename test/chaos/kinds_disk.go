package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// fails has one agent's volume fail at a step, once or for a while. The others go on;
// it goes on by itself when the volume is mended; nobody ends.
func (r *round) fails(points []string, actions []string) error {
	if err := r.working(3, 1); err != nil {
		return err
	}
	for i := range 4 {
		p, err := r.anyChild()
		if err != nil {
			return err
		}
		point := failpoint{Name: r.pick(points), Nth: 1 + r.rng.IntN(3), Action: r.pick(actions)}
		armed := []failpoint{point}
		long := i%2 == 1
		for range 500 {
			if long {
				armed = append(armed, failpoint{Name: point.Name, Action: point.Action})
			}
		}
		if err := p.arm(r.ctx, armed...); err != nil {
			return err
		}
		if _, err := r.fires(p); err != nil {
			return err
		}
		if long {
			if err := r.heldUp(p, said(point)); err != nil {
				return err
			}
			if err := p.arm(r.ctx); err != nil { // mended
				return err
			}
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

// heldUp makes sure that the fleet is told what holds p up, and that the others go on.
func (r *round) heldUp(p *proc, why string) error {
	err := within(r.ctx, patience, "agent status says that somebody is held up: "+why, func() bool {
		out, _, err := r.agent("status", "--json")
		return err == nil && contains(out, `"held":"`, why)
	})
	if err != nil {
		return err
	}
	return r.progressOf(r.others(p), 3)
}

// syncFails: row 11. The disk does not confirm: nothing is acknowledged before the same
// bytes were written and synced again.
func syncFails(r *round) error {
	return r.fails([]string{"data.datasync.before", "data.datasync.after"}, []string{actEIO})
}

// writeFails: row 12. What is committed stays committed, and waits.
func writeFails(r *round) error {
	return r.fails([]string{"data.write.before", "data.write.torn", "data.write.torn", "data.write.after"}, []string{actEIO, actENOSPC, actShort})
}

// said is what an agent must say of an error.
func said(point failpoint) string {
	switch point.Action {
	case actENOSPC:
		return "no space left on device"
	case actEIO:
		return "input/output error"
	}
	return "short write"
}

// volumeHangs: row 12. An operation of one agent's volume does not return. The others
// write what it has committed, and go on.
func volumeHangs(r *round) error {
	if err := r.working(3, 1); err != nil {
		return err
	}
	for range 3 {
		p, err := r.anyChild()
		if err != nil {
			return err
		}
		point := failpoint{Name: r.pick([]string{"data.write.before", "data.write.torn", "data.datasync.before"}), Nth: 1 + r.rng.IntN(3), Action: actHold}
		if err := p.arm(r.ctx, point); err != nil {
			return err
		}
		if _, err := r.fires(p); err != nil {
			return err
		}
		if err := r.heldUp(p, "does not return"); err != nil {
			return err
		}
		if err := p.order(r.ctx, order{Do: "go"}); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

// tmpfsFull: row 12. A volume of 1 MiB that is really full: all agents wait, and go on by
// themselves when there is room.
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
			err := within(r.ctx, 2*time.Minute, p.id+" is held up by a full volume", func() bool {
				return p.ended() || p.said(p.full, "no space left on device")
			})
			if err != nil {
				return orRejected(err)
			}
			p.full = p.mark()
		}
		r.fire("a full tmpfs")
		if err := syscall.Mount("chaos", volume, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%dm", size)); err != nil {
			return fmt.Errorf("make room on the tmpfs: %w", err)
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

// clockJumps: row 16. The wall clock of an agent is an hour off, either way, and again.
func clockJumps(r *round) error {
	if err := r.working(3, 1); err != nil {
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
