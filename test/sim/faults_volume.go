package sim

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// broken is a volume that no schedule has but those of the test that wants to see bytes
// lost: several hosts with page caches of their own, written with plain descriptors.
var broken bool

// chooseVolume decides for a volume of one kernel, or of another machine for several hosts.
func (w *world) chooseVolume() {
	hosts := 1
	if w.mode = writer.Plain; w.tape.chance(2) || broken {
		w.mode, hosts = writer.Direct, 2+w.tape.pick(2)
	}
	for n := range hosts {
		w.hosts = append(w.hosts, &host{w: w, name: fmt.Sprintf("host-%d", n+1)})
	}
	for _, h := range w.hosts {
		if hosts > 1 {
			h.cache = &cache{}
		}
	}
	if broken {
		w.mode = writer.Plain
	}
}

// volumeEvents are the things that the volume may do next.
func (w *world) volumeEvents() []func() {
	var can []func()
	for _, h := range w.hosts {
		if h.hung || h.sick != nil {
			can = append(can, h.mend)
		}
	}
	for i, s := range w.disk.flights {
		can = append(can, func() {
			w.disk.flights = slices.Delete(w.disk.flights, i, i+1)
			w.tell("a write of %s, which is no more, arrives", s.p.name)
			s.late()
		})
	}
	if file := w.disk.live[dataFile]; file != nil && w.mode == writer.Plain && len(file.live) > 0 {
		can = append(can, func() { w.writeBack(file) })
	}
	return can
}

// writeBack is the kernel's own: some of what is not on disk goes there.
func (w *world) writeBack(file *inode) {
	if w.breaks(diskSync) {
		file.failToFlush(w.tape)
		return
	}
	if w.tape.chance(4) && file.forget() {
		w.tell("the kernel forgets what it could not write")
		w.lost = true // to readers it is as after a power loss
	}
	for _, h := range w.hosts {
		if h.cache != nil && w.tape.chance(2) {
			h.cache.flush(file)
		}
	}
	file.flush(func() bool { return w.tape.chance(2) })
	w.seen("a writeback")
	w.kept()
}

// volumeFault gives what a fault of the volume would do now, nil when it can do nothing.
func (w *world) volumeFault(kind Fault) func() {
	h := w.hosts[w.tape.pick(len(w.hosts))]
	switch kind {
	case sicken:
		sick, all := sicknesses[w.tape.pick(len(sicknesses))], w.tape.chance(3)
		return func() {
			w.tell("… on %s (all: %v): %v", h.name, all, sick)
			for _, other := range w.hosts {
				if all || other == h {
					other.sick = sick
				}
			}
		}
	case hang:
		return func() { w.tell("… on %s", h.name); h.hung = true }
	case veil:
		if len(w.hosts) > 1 {
			return func() { w.tell("… on %s", h.name); h.veiled = time.Now() }
		}
	case powerLoss:
		return w.powerFails
	case hostLoss:
		if len(w.hosts) > 1 {
			return func() { w.tell("… of %s", h.name); h.losePower() }
		}
	case restore:
		if w.backup[dataFile] == nil {
			w.backup = w.disk.snapshot()
			return nil
		}
		return w.restoreVolume
	case cutShort:
		if w.head.Turn > 0 && w.disk.live[dataFile] != nil {
			return w.cutFile
		}
	case appendTo:
		if w.head.Turn > 0 && w.disk.live[dataFile] != nil {
			return w.appendToFile
		}
	case replace:
		if file := w.disk.live[dataFile]; file != nil && w.mode == writer.Plain {
			return func() { w.replaceFile(file) }
		}
	}
	return nil
}

func (w *world) killAll() {
	for _, p := range w.procs {
		p.kill()
	}
}

func (h *host) losePower() {
	for _, p := range h.w.procs {
		if p.host == h {
			p.kill()
		}
	}
	h.mend()
	if h.cache != nil {
		h.cache = &cache{}
	}
}

// powerFails is the power loss of the machine that has the volume: the agents' own, or a
// server, which starts anew while they go on.
func (w *world) powerFails() {
	if !w.disk.network() {
		w.killAll()
	}
	w.lost = true
	w.disk.losePower()
	w.followed = nil
	w.tell("the volume has %v", w.disk)
	w.seen("the power loss")
	w.kept()
}

func (w *world) restoreVolume() {
	w.killAll()
	w.disk.settle(w.backup)
	w.backup, w.strange = nil, 0
	w.tell("the volume has %v", w.disk)
	w.tampered()
}

// tampered is what there is to know after somebody replaced what is on the volume, while
// nobody was at work: what was under way then does not count any more.
func (w *world) tampered() {
	w.mayRefuse = true
	w.zk.flights, w.disk.flights = nil, nil
	w.spoilt = true
}

// cutFile takes turns, or a part of one, off the end of the file, behind everybody's back.
func (w *world) cutFile() {
	w.killAll()
	file := w.disk.live[dataFile]
	cut := w.turns[w.tape.pick(len(w.turns))].end()
	if w.tape.chance(2) { // within the last turn
		cut = len(w.prefix) - 1 - w.tape.pick(40)
	}
	file.live = file.live[:max(0, min(len(file.live), cut))]
	w.disk.settle(w.disk.live)
	w.strange = 0
	w.tell("the file is cut to %d bytes", len(file.live))
	w.tampered()
}

const oops = "oops\n"

// appendToFile lets somebody append a line past all agents, as "echo oops >>FILE" does,
// while some of what is committed may be missing from the file.
func (w *world) appendToFile() {
	w.killAll()
	file := w.disk.live[dataFile]
	file.live = append(file.live, oops...)
	w.disk.settle(w.disk.live)
	w.strange = len(file.live)
	w.tell("somebody appends to the file, which has %d bytes now", len(file.live))
	w.tampered()
}

// replaceFile puts a whole copy in the file's place, on disk, as an editor does. Agents
// have the old one open.
func (w *world) replaceFile(file *inode) {
	fresh := w.disk.copyOf(file)
	fresh.safe = slices.Clone(fresh.live)
	fresh.resize(len(fresh.live))
	w.disk.live[dataFile], w.disk.safe[dataFile] = fresh, fresh
	w.kept()
}

// tamperWith lets somebody alter or delete a turn's node, or take everybody's right to
// read it.
func (w *world) tamperWith(kind Fault, node string) {
	if kind == hide {
		w.tell("nobody is allowed to read %s", node)
		w.zk.hidden[node] = true
		return
	}
	w.mayRefuse = true
	for i := range w.turns {
		if w.turns[i].node == node {
			w.turns[i].tampered = true
		}
	}
	if w.tape.chance(2) {
		w.tell("somebody deletes %s", node)
		w.zk.leader().drop(node)
		return
	}
	was := *w.zk.leader().nodes[node]
	was.data = bytes.Clone(was.data)
	was.data[len(was.data)-1-w.tape.pick(len(was.data))] ^= 1
	was.version++
	was.asked = nil
	w.tell("somebody alters %s", node)
	w.zk.commit([]change{{node, &was}}, 0)
}
