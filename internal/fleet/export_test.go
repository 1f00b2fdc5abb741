package fleet

import "time"

// SetBound sets how long an operation of the volume may take.
func (a *Agent) SetBound(d time.Duration) { a.bound = d }
