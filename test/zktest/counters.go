package zktest

import (
	"fmt"
	"reflect"
	"sync"
	"testing"
	"unsafe"

	"github.com/turnstile-fleet/turnstile/internal/zkdev"
)

// SetCounters makes a node's counters what they are after that many changes: creates
// counts the children that were ever created below it, which gives the next sequence
// number; version is its own. It reaches into zkdev, whose users have no need of it.
func (s *Server) SetCounters(t testing.TB, node string, creates, version int32) {
	t.Helper()
	if s.dev == nil {
		t.Skip("a real server cannot be told where to begin")
	}
	if err := setCounters(*s.dev, node, creates, version); err != nil {
		t.Fatal(err)
	}
}

func setCounters(dev *zkdev.Server, node string, creates, version int32) error {
	server := reflect.ValueOf(dev).Elem()
	mu := (*sync.Mutex)(field(server, "mu", reflect.TypeFor[sync.Mutex]()))
	mu.Lock()
	defer mu.Unlock()
	nodes := reflect.Indirect(server.FieldByName("tree")).FieldByName("nodes")
	found := nodes.MapIndex(reflect.ValueOf(node))
	if !found.IsValid() {
		return fmt.Errorf("set counters: there is no %s", node)
	}
	*(*int32)(field(found.Elem(), "creates", reflect.TypeFor[int32]())) = creates
	*(*int32)(field(found.Elem(), "version", reflect.TypeFor[int32]())) = version
	return nil
}

// field is where a struct has a field, which must be of that type.
func field(of reflect.Value, name string, as reflect.Type) unsafe.Pointer {
	f := of.FieldByName(name)
	if !f.IsValid() || f.Type() != as {
		panic(fmt.Sprintf("%s has no field %s of type %s", of.Type(), name, as))
	}
	return f.Addr().UnsafePointer()
}
