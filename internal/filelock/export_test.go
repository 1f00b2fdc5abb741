package filelock

import "testing"

// SetHalf lets the fleet move on to new counters after n. The test must not run beside
// others.
func SetHalf(t testing.TB, n int32) {
	was := half
	half = n
	t.Cleanup(func() { half = was })
}
