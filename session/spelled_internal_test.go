package session

import (
	"errors"
	"fmt"
	"testing"

	"github.com/go-zookeeper/zk"
)

// The library has no name for these.
func TestSpelled_namesWhatTheLibraryKnowsByNumber(t *testing.T) {
	for number, want := range map[int]error{-124: ErrAuthWanted, -125: ErrQuota, -119: ErrReadOnly} {
		if got := spelled(fmt.Errorf("unknown error: %v", number)); !errors.Is(got, want) {
			t.Errorf("%d is %v, want %v", number, got, want)
		}
	}
	for _, err := range []error{nil, zk.ErrNoNode, errors.New("unknown error: -1234")} {
		if got := spelled(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}
