package sim

import "errors"

// lives is how agents learn of each other's death, and see that they share a volume:
// fleet.Lives, for one process.
type lives struct{ p *proc }

// look is one agent's look at another's life.
type look struct {
	by, at *proc
	died   chan struct{}
}

func (l lives) Hold(name string) (life string, release func(), err error) {
	l.p.onVolume("making its marker")
	l.p.life = name
	return name, func() { l.p.asksVolume("removing its marker"); l.p.life = "" }, nil
}

// Stands: a marker stays until its process removes it; that of a dead one is never swept.
func (l lives) Stands(life string) (bool, error) {
	l.p.onVolume("looking for a marker")
	for _, p := range l.p.w.procs {
		if p.life == life {
			return l.p.host.sees(p), nil
		}
	}
	return false, nil
}

func (l lives) Watch(life string) (died <-chan struct{}, stop func(), err error) {
	l.p.gate("looking at a life")
	w := l.p.w
	for _, p := range w.procs {
		if p.life == life {
			k := &look{l.p, p, make(chan struct{})}
			w.looks[k] = true
			return k.died, func() { w.mu.Lock(); delete(w.looks, k); w.mu.Unlock() }, nil
		}
	}
	return nil, nil, errors.New("no such life")
}

// Tells: every volume here takes FIFOs.
func (l lives) Tells(string) bool { return true }

func (l lives) Sweep(func() ([]string, error)) error { l.p.stopIfDead(); return nil }

func (l lives) SweepMarkers(func() ([]string, error)) error { return nil }

// deaths are those that can be told of next.
func (w *world) deaths() []func() {
	return w.lookers(func(k *look) bool { return k.at.dead })
}

// lookers tells those who look of the deaths that are chosen.
func (w *world) lookers(chosen func(*look) bool) []func() {
	var can []func()
	for _, p := range w.procs { // not in the map's order, which is another each time
		for k := range w.looks {
			if k.by == p && !p.paused && !p.gone() && chosen(k) {
				can = append(can, func() {
					w.tell("%s is told that %s has died", k.by.name, k.at.name)
					delete(w.looks, k)
					close(k.died)
				})
			}
		}
	}
	return can
}
