package sim

import "errors"

// lives is how agents learn of each other's death: fleet.Lifelines, for one process.
type lives struct{ p *proc }

// look is one agent's look at another's life.
type look struct {
	by, at *proc
	died   chan struct{}
}

func (l lives) Hold(name string) (release func(), err error) {
	l.p.step("beginning its life")
	l.p.life = name
	return func() { l.p.stopIfDead(); l.p.life = "" }, nil
}

func (l lives) Watch(name string) (died <-chan struct{}, stop func(), err error) {
	l.p.stopIfDead()
	w := l.p.w
	for _, p := range w.procs {
		if p.life == name {
			k := &look{l.p, p, make(chan struct{})}
			w.looks[k] = true
			return k.died, func() { w.mu.Lock(); delete(w.looks, k); w.mu.Unlock() }, nil
		}
	}
	return nil, nil, errors.New("no such life")
}

func (l lives) Sweep(func() ([]string, error)) error { l.p.stopIfDead(); return nil }

// deaths are those that can be told of next.
func (w *world) deaths() []func() {
	return w.lookers(func(k *look) bool { return k.at.dead })
}

// lookers tells those who look of the deaths that are chosen.
func (w *world) lookers(chosen func(*look) bool) []func() {
	var can []func()
	for _, p := range w.procs { // not in the map's order, which is another each time
		for k := range w.looks {
			if k.by == p && !p.paused && !p.dead && chosen(k) {
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
