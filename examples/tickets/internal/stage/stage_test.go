package stage

import (
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestRedis_noKeyExpiresEarly: whenever it is set. A lock that goes before its time is a fault
// of the service's elsewhere.
func TestRedis_noKeyExpiresEarly(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: Redis(t)})
	defer client.Close()
	const holds = 100 * time.Millisecond
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			key := string(rune('a' + n))
			for range 5 {
				began := time.Now()
				if err := client.Set(t.Context(), key, "", holds).Err(); err != nil {
					t.Error(err)
					return
				}
				for client.Get(t.Context(), key).Err() == nil {
				}
				if took := time.Since(began); took < holds {
					t.Errorf("gone after %v, want %v at least", took, holds)
				}
			}
		})
	}
	all.Wait()
}
