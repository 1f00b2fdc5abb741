package recipetest

import "github.com/turnstile-fleet/turnstile/internal/queue"

// Mortals are lifelines whose holder dies when told to.
type Mortals struct {
	queue.Lifelines
	Watched chan struct{} // told when another's life is watched: from then on its end is seen

	release func()
}

// NewMortals are lives that one other watches at most.
func NewMortals(lives queue.Lifelines) *Mortals {
	return &Mortals{Lifelines: lives, Watched: make(chan struct{}, 1)}
}

// Watch tells Watched of it.
func (m *Mortals) Watch(name string) (<-chan struct{}, func(), error) {
	died, stop, err := m.Lifelines.Watch(name)
	m.Watched <- struct{}{}
	return died, stop, err
}

// Hold gives a release that does nothing: the life ends with Die.
func (m *Mortals) Hold(name string) (string, func(), error) {
	life, release, err := m.Lifelines.Hold(name)
	m.release = release
	return life, func() {}, err
}

// Die ends the life that was held last.
func (m *Mortals) Die() { m.release() }
