package locks

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// The keys. The braces keep all of them on one server of a cluster, as the scripts need it.
const (
	lockKey  = "{tickets}:lock:" // and the ticket: "token nonce" of who holds it, with an expiry
	stateKey = "{tickets}:state" // a hash of epoch and number, so that both are lost or kept
)

var (
	// take counts in the script that sets the key. A number that was drawn before or after
	// would not be in the order of the locks. It is no lower than the time in microseconds: a
	// Redis that comes back as it was before does not count again what it counted. A request
	// that comes twice, because the answer to the first was lost, has the same nonce, and gets
	// the same token. A lock of another epoch is worth nothing.
	take = redis.NewScript(`
local epoch, nonce, hold = ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', KEYS[2], 'epoch') ~= epoch then return 'epoch' end
local held = redis.call('GET', KEYS[1])
if held then
  local token, whose = string.match(held, '^(%d+%.%d+) (%w+)$')
  if whose == nonce then return token end
  if token and string.match(token, '^%d+') == epoch then return 'taken' end
end
local now = redis.call('TIME')
local number = math.max(tonumber(redis.call('HGET', KEYS[2], 'number') or '') or 0, now[1] * 1000000 + now[2]) + 1
local token = epoch .. '.' .. string.format('%.0f', number)
redis.call('HSET', KEYS[2], 'number', string.format('%.0f', number))
redis.call('SET', KEYS[1], token .. ' ' .. nonce, 'PX', hold)
return token`)

	// free compares and deletes: the key may be somebody else's by now. It takes either a token
	// or a nonce, and "" for the other.
	free = redis.NewScript(`
local token, whose = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+%.%d+) (%w+)$')
if token and (token == ARGV[1] or whose == ARGV[2]) then return redis.call('DEL', KEYS[1]) end
return 0`)

	raise = redis.NewScript(`
local epoch = tonumber(string.match(redis.call('HGET', KEYS[1], 'epoch') or '', '^%d+$') or '')
if not epoch or epoch < tonumber(ARGV[1]) or epoch > tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], 'epoch', ARGV[1]) end
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
	opts.ContextTimeoutEnabled = true // a request's end is ours, too
	return &redisLocks{redis.NewClient(opts)}, nil
}

func (l *redisLocks) Take(ctx context.Context, ticket string, epoch int64, hold time.Duration) (t Token, until time.Time, err error) {
	nonce := rand.Text()
	until = time.Now().Add(hold)
	token, err := take.Run(ctx, l.client, []string{lockKey + ticket, stateKey}, epoch, nonce, hold.Milliseconds()).Text()
	switch {
	case err != nil: // it may be ours all the same, and nobody would know
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		return t, until, silent(errors.Join(err, l.free(ctx, ticket, "", nonce)))
	case token == "taken":
		return t, until, ErrTaken
	case token == "epoch":
		return t, until, ErrEpoch
	}
	t, err = parseToken(token)
	return t, until, err
}

func (l *redisLocks) Free(ctx context.Context, ticket string, t Token) error {
	return silent(l.free(ctx, ticket, t.String(), ""))
}

func (l *redisLocks) free(ctx context.Context, ticket, token, nonce string) error {
	return free.Run(ctx, l.client, []string{lockKey + ticket}, token, nonce).Err()
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
	var values *redis.SliceCmd
	var state *redis.StringCmd
	// The epoch last: so it is no older than any of the locks.
	_, err := l.client.Pipelined(ctx, func(both redis.Pipeliner) error {
		values, state = both.MGet(ctx, keys...), both.HGet(ctx, stateKey, "epoch")
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, silent(err)
	}
	epoch := asEpoch(state.Val())
	for i, value := range values.Val() {
		text, _ := value.(string)
		text, _, _ = strings.Cut(text, " ")
		// What others wrote there is no lock: take sets it anew.
		if token, err := parseToken(text); err == nil && token.Epoch == epoch {
			held[tickets[i]] = token
		}
	}
	return held, nil
}

func (l *redisLocks) Epoch(ctx context.Context) (int64, error) {
	epoch, err := l.client.HGet(ctx, stateKey, "epoch").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, silent(err)
	}
	return asEpoch(epoch), nil
}

// highest is the highest epoch: Redis's scripts count in floating point.
const highest = 1 << 52

// asEpoch reads an epoch; 0 when there is none, or somebody else wrote there: Raise mends it.
func asEpoch(s string) int64 {
	epoch, err := strconv.ParseInt(s, 10, 64)
	if err != nil || epoch > highest {
		return 0
	}
	return epoch
}

func (l *redisLocks) Raise(ctx context.Context, epoch int64) error {
	return silent(raise.Run(ctx, l.client, []string{stateKey}, epoch, highest).Err())
}

func (l *redisLocks) Close() { l.client.Close() }

func silent(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
