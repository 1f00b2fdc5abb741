package locks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// The keys. The braces keep all of them on one server of a cluster, as the scripts need it.
const (
	lockKey  = "{tickets}:lock:" // and the ticket: the token that holds it, with an expiry
	stateKey = "{tickets}:state" // a hash of epoch and number, so that both are lost or kept
)

var (
	// take counts in the script that sets the key. A number that was drawn before or after
	// would not be in the order of the locks.
	take = redis.NewScript(`
local epoch = redis.call('HGET', KEYS[2], 'epoch')
if not epoch then return 'no epoch' end
if redis.call('EXISTS', KEYS[1]) == 1 then return '' end
local token = epoch .. '.' .. redis.call('HINCRBY', KEYS[2], 'number', 1)
redis.call('SET', KEYS[1], token, 'NX', 'PX', ARGV[1])
return token`)

	// free compares and deletes: the key may be somebody else's by now.
	free = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`)

	raise = redis.NewScript(`
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch or tonumber(epoch) < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'epoch', ARGV[1]) end
return 0`)
)

type redisLocks struct{ client *redis.Client }

// OpenRedis gives locks in Redis, at redis://[user:password@]host:port/database. It does not
// connect yet. What it takes outlives the instance until it expires.
func OpenRedis(url string) (Locks, error) {
	opts, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return &redisLocks{redis.NewClient(opts)}, nil
}

func (l *redisLocks) Take(ctx context.Context, ticket string, hold time.Duration) (Token, error) {
	token, err := take.Run(ctx, l.client, []string{lockKey + ticket, stateKey}, hold.Milliseconds()).Text()
	switch {
	case err != nil:
		return Token{}, silent(err)
	case token == "":
		return Token{}, ErrTaken
	case token == "no epoch":
		return Token{}, ErrNoEpoch
	}
	return parseToken(token)
}

func (l *redisLocks) Free(ctx context.Context, ticket string, t Token) error {
	return silent(free.Run(ctx, l.client, []string{lockKey + ticket}, t.String()).Err())
}

func (l *redisLocks) Holders(ctx context.Context, tickets []string) (map[string]Token, error) {
	held := map[string]Token{}
	if len(tickets) == 0 {
		return held, nil
	}
	keys := make([]string, len(tickets))
	for i, ticket := range tickets {
		keys[i] = lockKey + ticket
	}
	values, err := l.client.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, silent(err)
	}
	for i, value := range values {
		if text, ok := value.(string); ok {
			if held[tickets[i]], err = parseToken(text); err != nil {
				return nil, fmt.Errorf("the key %s: %w", keys[i], err)
			}
		}
	}
	return held, nil
}

func (l *redisLocks) Epoch(ctx context.Context) (int64, error) {
	epoch, err := l.client.HGet(ctx, stateKey, "epoch").Int64()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	return epoch, silent(err)
}

func (l *redisLocks) Raise(ctx context.Context, epoch int64) error {
	return silent(raise.Run(ctx, l.client, []string{stateKey}, epoch).Err())
}

func (l *redisLocks) Close() { l.client.Close() }

func silent(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
