package queue

import (
	"sync"

	"go.uber.org/zap"
)

// Lifelines are how the processes of one machine notice each other's death at once: a
// lifeline.Dir, or simulated ones. A name is for a process's life, across its sessions.
type Lifelines interface {
	// Hold begins a life that ends with the process, or with release. life is what the
	// others know it by.
	Hold(name string) (life string, release func(), err error)
	// Watch closes died when the life has ended, never before. stop ends the watch. An
	// error says that nothing can be known.
	Watch(life string) (died <-chan struct{}, stop func(), err error)
	// Tells tells whether the end of a life that we hold is told to anybody.
	Tells(life string) bool
	// Sweep forgets the lives that have ended, but for those that keep lists.
	Sweep(keep func() ([]string, error)) error
}

// Life is a process's own lifeline, and its eye on that of whoever is before it in the
// queue. When turns go round that is the same agent again and again: the watch is kept,
// and costs nothing then.
type Life struct {
	lines Lifelines
	log   *zap.Logger

	mu       sync.Mutex // guards what follows
	name     string     // ours, empty when others cannot see it
	releases []func()   // of it, and of those that were removed

	ahead string // whose death we look for, empty when for nobody's
	died  <-chan struct{}
	stop  func()
}

// BeginLife holds a lifeline called run. Without one all works, but for that. lines may be nil.
func BeginLife(lines Lifelines, run string, log *zap.Logger) *Life {
	l := &Life{lines: lines, log: log}
	if lines == nil {
		return l
	}
	life, release, err := lines.Hold(run)
	if err != nil {
		log.Warn("should this agent crash in its turn, the others wait until its session expires", zap.Error(err))
		return l
	}
	l.name, l.releases = life, []func(){release}
	if !lines.Tells(life) {
		log.Warn("the volume takes no FIFOs: should this agent crash, the others wait until its session expires; nothing else changes")
	}
	return l
}

// Renew holds another lifeline for the same run, in place of one that somebody removed. The
// old one is let go of only at the end: its end would be taken for our death.
//
// It is enough to look now and then whether that is needed, and not once more between
// making the marker and registering. Of two agents on different volumes, whoever lists the
// members last finds the other registered and looks for the other's marker, on its own
// volume, where it never was: its own plays no part in that. A marker that is missing makes
// nobody take two volumes for one; it can only make who enters on the same volume wait, and
// refuse when it was not made again in all the time that it waits.
func (l *Life) Renew(run string) error {
	life, release, err := l.lines.Hold(run)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.name, l.releases = life, append(l.releases, release)
	return nil
}

// End lets go of everything. Our places must be gone before.
func (l *Life) End() {
	l.look("")
	l.mu.Lock()
	releases := l.releases
	l.releases = nil
	l.mu.Unlock()
	for _, release := range releases {
		release()
	}
}

// Watch is Line's Died.
func (l *Life) Watch(who Member) <-chan struct{} {
	if l.lines == nil {
		return nil
	}
	l.look(who.Life)
	return l.died
}

func (l *Life) look(name string) {
	if name == l.ahead {
		return
	}
	if l.stop != nil {
		l.stop()
	}
	l.ahead, l.died, l.stop = "", nil, nil
	if name == "" {
		return
	}
	died, stop, err := l.lines.Watch(name)
	if err != nil {
		l.log.Debug("whether the agent before us lives cannot be known: its session tells", zap.Error(err))
		return
	}
	l.ahead, l.died, l.stop = name, died, stop
}

// Name is the life's, for Member; empty when others cannot see it.
func (l *Life) Name() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.name
}

// Sweep clears away what dead processes left on the volume, but for the lives that are
// listed: one may have a place, and until that is removed, its death must stay known.
func (l *Life) Sweep(listed func() ([]string, error)) {
	if l.Name() == "" {
		return
	}
	if err := l.lines.Sweep(listed); err != nil {
		l.log.Warn("the lifelines of dead agents stay on the volume for now", zap.Error(err))
	}
}
