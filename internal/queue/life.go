package queue

import (
	"go.uber.org/zap"
)

// Lifelines are how the processes of one machine notice each other's death at once: a
// lifeline.Dir, or simulated ones. A name is a process's life, across its sessions.
type Lifelines interface {
	// Hold begins a life that ends with the process, or with release.
	Hold(name string) (release func(), err error)
	// Watch closes died when the life called name has ended, never before. stop ends
	// the watch. An error says that nothing can be known.
	Watch(name string) (died <-chan struct{}, stop func(), err error)
	// Sweep forgets the lives that have ended, but for those that keep names.
	Sweep(keep func() ([]string, error)) error
}

// Life is a process's own lifeline, and its eye on that of whoever is before it in the
// queue. When turns go round that is the same agent again and again: the watch is kept,
// and costs nothing then.
type Life struct {
	lines Lifelines
	log   *zap.Logger

	name    string // ours, empty when others cannot see it
	release func()

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
	release, err := lines.Hold(run)
	if err != nil {
		log.Warn("should this agent crash in its turn, the others wait until its session expires", zap.Error(err))
		return l
	}
	l.name, l.release = run, release
	return l
}

// End lets go of everything. Our places must be gone before.
func (l *Life) End() {
	l.look("")
	if l.release != nil {
		l.release()
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
func (l *Life) Name() string { return l.name }

// Sweep clears away what dead processes left on the volume, but for the lives that are
// listed: one may have a place, and until that is removed, its death must stay known.
func (l *Life) Sweep(listed func() ([]string, error)) {
	if l.name == "" {
		return
	}
	if err := l.lines.Sweep(listed); err != nil {
		l.log.Warn("the lifelines of dead agents stay on the volume for now", zap.Error(err))
	}
}
