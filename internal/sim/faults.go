package sim

import (
	"bytes"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

// Fault is a kind of fault.
type Fault int

const (
	kill       Fault = iota // a process, between any two steps
	pause                   // a process, and continue it later
	terminate               // SIGTERM
	disconnect              // a client's connection breaks while nothing is under way
	network                 // a request or its answer is lost, or late
	expire                  // a session ends in ZooKeeper, and its client does not know
	giveUp                  // a client takes its session for expired; ZooKeeper does not
	evict                   // somebody deletes a place in the queue
	election                // ZooKeeper has a new leader, and all have to connect to it
	wrongDeath              // somebody is told of a death that did not happen
	rollBack                // ZooKeeper is restored to an older state
	diskWrite               // a write fails or is cut short: EIO, ENOSPC
	diskSync                // a sync fails
	powerLoss               // all processes are gone, and with them what was not synced
	restore                 // the volume is restored to an older state
	cutShort                // somebody cuts the file at the end of a turn
	clock                   // the wall clock jumps an hour
	foreign                 // nodes in the queue that are none of ours
	faultKinds
)

var faultNames = [faultKinds]string{
	"kill -9", "pause", "SIGTERM", "connection lost", "request or answer lost", "session expired",
	"session given up", "evicted", "new leader", "wrong death", "ZooKeeper restored", "write failed", "sync failed",
	"power loss", "volume restored", "file cut short", "clock jump", "foreign nodes",
}

func (f Fault) String() string { return faultNames[f] }

// always is a kind of fault that every schedule may have, as bits: for guards that only
// matter then.
var always int

// chooseThemes decides which kinds of faults a schedule may have. Two disasters that
// together undo what Turnstile relies on are never in one: a restored ZooKeeper is
// recognised by what the volume knows, which a power loss may take a turn back, and a
// restored volume by what ZooKeeper knows.
func (w *world) chooseThemes() int {
	themes := 0
	for kind := range faultKinds {
		odds := 2
		if kind == rollBack || kind == restore || kind == cutShort {
			odds = 6
		}
		if w.tape.chance(odds) {
			themes |= 1 << kind
		}
	}
	themes |= always
	if themes&(1<<rollBack) != 0 {
		themes &^= 1<<powerLoss | 1<<restore | 1<<cutShort
	}
	return themes
}

func (w *world) themed(kind Fault) bool { return w.themes&(1<<kind) != 0 }

func (w *world) fired(kind Fault) {
	w.budget--
	w.counts.Faults[kind]++
}

// breaks tells whether the request or operation at hand fails.
func (w *world) breaks(kind Fault) bool {
	if w.calm || w.budget <= 0 || !w.themed(kind) || !w.tape.chance(w.wear) {
		return false
	}
	w.fired(kind)
	w.tell("FAULT: %v", kind)
	return true
}

// breakSomething lets one fault happen that is not bound to an operation.
func (w *world) breakSomething() bool {
	var kinds []Fault
	for kind := range faultKinds {
		if w.themed(kind) && kind != network && kind != diskWrite && kind != diskSync && kind != foreign {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 0 {
		return false
	}
	kind := kinds[w.tape.pick(len(kinds))]
	do := w.fault(kind)
	if do == nil {
		return false
	}
	w.fired(kind)
	w.tell("FAULT: %v", kind)
	do()
	return true
}

// fault gives what a fault of a kind would do now, nil when it can do nothing.
func (w *world) fault(kind Fault) func() {
	switch kind {
	case kill, pause, terminate, disconnect, expire, giveUp:
		return w.faultOfOne(kind)
	case evict:
		if places := w.zk.places(); len(places) > 0 {
			place := places[w.tape.pick(len(places))]
			return func() { w.tell("somebody deletes %s", place); w.zk.leader().drop(place) }
		}
	case election:
		return w.zk.elect
	case wrongDeath:
		if can := w.lookers(func(*look) bool { return true }); len(can) > 0 {
			return can[w.tape.pick(len(can))]
		}
	case rollBack:
		if n := len(w.zk.history); n > 0 {
			return func() { w.rollBack(n - w.tape.pick(min(n, 12))) }
		}
	case powerLoss:
		return w.powerFails
	case restore:
		if w.backup[dataFile] == nil {
			w.backup = w.disk.snapshot()
			return nil
		}
		return w.restoreVolume
	case cutShort:
		if w.head.Turn > 0 {
			return w.cutFile
		}
	case clock:
		return func() { w.clock += []time.Duration{time.Hour, -time.Hour}[w.tape.pick(2)] }
	}
	return nil
}

// faultOfOne gives what happens to one process.
func (w *world) faultOfOne(kind Fault) func() {
	var can []*proc
	for _, p := range w.procs {
		if p.dead || p.ended {
			continue
		}
		c := p.client
		attached := c != nil && !c.over()
		switch kind {
		case kill, terminate:
			can = append(can, p)
		case pause:
			if !p.paused {
				can = append(can, p)
			}
		case disconnect:
			if attached && c.connected {
				can = append(can, p)
			}
		case expire:
			if attached && !c.gone {
				can = append(can, p)
			}
		case giveUp:
			if attached {
				can = append(can, p)
			}
		}
	}
	if len(can) == 0 {
		return nil
	}
	p := can[w.tape.pick(len(can))]
	return func() {
		w.tell("… of %s", p.name)
		switch kind {
		case kill:
			p.kill()
		case terminate:
			p.term()
		case pause:
			p.paused = true
		case disconnect:
			p.client.disconnect()
		case expire:
			w.zk.expire(p.client)
		case giveUp:
			p.client.expire("no answer from ZooKeeper before the session's deadline")
		}
	}
}

func (w *world) killAll() {
	for _, p := range w.procs {
		if !p.ended {
			p.kill()
		}
	}
}

func (w *world) powerFails() {
	w.killAll()
	w.disk.losePower()
	w.tell("the volume has %v", w.disk)
	if !w.spoilt {
		w.checkVolume("after the power loss")
	}
}

func (w *world) restoreVolume() {
	w.killAll()
	then := w.backup
	switch fence := dataFile + ".fence"; w.tape.pick(3) {
	case 1:
		w.tell("… only the file")
		then = w.disk.snapshot()
		then[dataFile] = w.backup[dataFile]
	case 2:
		w.tell("… only the fence")
		then = w.disk.snapshot()
		then[fence] = w.backup[fence]
	}
	w.disk.restore(then)
	w.tell("the volume has %v", w.disk)
	w.tampered()
}

// tampered is what there is to know after somebody replaced what is on the volume, while
// nobody was at work: what was under way then does not count any more.
func (w *world) tampered() {
	w.mayRefuse = true
	w.zk.flights = nil
	w.spoilt = !bytes.HasPrefix(w.disk.content(), w.prefix)
}

// cutFile takes turns, or a part of one, off the end of the file, behind everybody's back.
func (w *world) cutFile() {
	w.killAll()
	file := w.disk.live[dataFile]
	turn := w.head.Turn - uint64(w.tape.pick(int(w.head.Turn))) - 1
	cut := w.ends[turn]
	if w.tape.chance(2) { // within the last turn
		cut = len(w.prefix) - 1 - w.tape.pick(40)
	}
	file.resize(min(len(file.live), cut))
	file.flush()
	w.tell("the file is cut to %d bytes", len(file.live))
	w.tampered()
}

// strangers puts nodes into the queue that are none of ours.
func (w *world) strangers() {
	for _, node := range []string{"/t", string(fleetRoot), queueNode} {
		w.zk.transact(0, &zk.CreateRequest{Path: node})
	}
	if !w.themed(foreign) {
		return
	}
	w.counts.Faults[foreign]++
	for _, name := range []string{"0", "lock-0000000000", strings.Repeat("0", 32) + "-1", strings.Repeat("f", 32) + "-000000000x"} {
		w.zk.transact(0, &zk.CreateRequest{Path: queueNode + "/" + name, Data: []byte("{")})
	}
}
