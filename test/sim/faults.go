package sim

import (
	"math"
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
	unlist                  // somebody deletes an agent's entry
	election                // ZooKeeper has a new leader, and all have to connect to it
	wrongDeath              // somebody is told of a death that did not happen
	rollBack                // ZooKeeper is restored to an older state
	alter                   // somebody alters, or deletes, a node of turns/
	hide                    // a node of turns/ cannot be read, for lack of rights, for a while
	diskWrite               // a write fails or is cut short: EIO, ENOSPC
	diskSync                // a sync, or what the kernel writes back by itself, fails
	sicken                  // writes fail for a while, on one host or on all
	veil                    // a host's directory cache hides the markers of other hosts, for a while
	hang                    // the mount does not answer for a while, on one host
	powerLoss               // of the machine with the volume: what was not synced is gone, and all who run there
	hostLoss                // of an agents' host that uses another machine's volume
	restore                 // the volume is restored to an older state
	cutShort                // somebody cuts the file at the end of a turn
	appendTo                // somebody appends a line to the file, past all agents
	replace                 // a copy of the file is renamed over it, under running agents
	clock                   // the wall clock jumps an hour
	foreign                 // nodes in the queue that are none of ours
	faultKinds
)

var faultNames = [faultKinds]string{
	"kill -9", "pause", "SIGTERM", "connection lost", "request or answer lost", "session expired",
	"session given up", "evicted", "entry removed", "new leader", "wrong death", "ZooKeeper restored",
	"turn node altered", "turn node hidden", "write failed", "sync failed", "writes fail for a while", "markers hidden", "mount hangs",
	"power loss", "host lost", "volume restored", "file cut short", "file appended to", "file replaced", "clock jump", "foreign nodes",
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
		if kind == rollBack || kind == restore || kind == cutShort || kind == appendTo || kind == alter || kind == hide {
			odds = 6
		}
		if w.tape.chance(odds) {
			themes |= 1 << kind
		}
	}
	themes |= always
	if themes&(1<<rollBack) != 0 {
		themes &^= 1<<powerLoss | 1<<restore | 1<<cutShort | 1<<appendTo
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
	wear := w.wear
	if kind != network { // there are fewer of the volume's operations
		wear = max(2, wear/6)
	}
	return w.breaksOnce(kind, wear)
}

// breaksOnce is breaks for what fails once in so many times.
func (w *world) breaksOnce(kind Fault, wear int) bool {
	if w.calm || w.budget <= 0 || !w.themed(kind) || !w.tape.chance(wear) {
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
		if w.themed(kind) && !ofOperations(kind) {
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

// ofOperations tells the kinds that happen to an operation, and those of the beginning.
func ofOperations(kind Fault) bool {
	return kind == network || kind == diskWrite || kind == diskSync || kind == foreign
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
	case unlist:
		if entries := w.zk.under(agents); len(entries) > 0 {
			entry := entries[w.tape.pick(len(entries))]
			return func() { w.tell("somebody deletes %s", entry); w.zk.leader().drop(entry) }
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
	case alter, hide:
		if nodes := w.zk.turns(); len(nodes) > 0 {
			node := nodes[w.tape.pick(len(nodes))]
			return func() { w.tamperWith(kind, node) }
		}
	case clock:
		return func() { w.clock += []time.Duration{time.Hour, -time.Hour}[w.tape.pick(2)] }
	default:
		return w.volumeFault(kind)
	}
	return nil
}

// faultOfOne gives what happens to one process.
func (w *world) faultOfOne(kind Fault) func() {
	var can []*proc
	for _, p := range w.procs {
		if p.gone() {
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
			p.source.told = true
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

// strangers puts nodes into the queue that are none of ours.
func (w *world) strangers() {
	for _, node := range []string{"/t", string(fleetRoot), queueNode} {
		w.zk.transact(0, &zk.CreateRequest{Path: node})
	}
	if w.tape.chance(6) { // soon half of them is used, and the fleet moves on to another line
		w.zk.counters[queueNode] = math.MaxInt32/2 - int32(w.tape.pick(8))
	}
	if !w.themed(foreign) {
		return
	}
	w.counts.Faults[foreign]++
	for _, name := range []string{"0", "lock-0000000000", strings.Repeat("0", 32) + "-1", strings.Repeat("f", 32) + "-000000000x"} {
		w.zk.transact(0, &zk.CreateRequest{Path: queueNode + "/" + name, Data: []byte("{")})
	}
}
