package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/recipe/lock"
)

// What a command under a lock finds in its environment.
const (
	envLock    = "TURNSTILE_LOCK"
	envToken   = "TURNSTILE_LOCK_TOKEN"
	envSlot    = "TURNSTILE_LOCK_SLOT"
	envServers = "TURNSTILE_LOCK_SERVERS"
	envHeld    = "TURNSTILE_LOCKS_HELD" // FLEET/NAME=NODE@TOKEN, with spaces between
)

// withoutLock is an environment without those variables.
func withoutLock(environ []string) []string {
	ours := []string{envLock, envToken, envSlot, envServers, envHeld}
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(ours, name)
	})
}

// lockEnv is the command's environment.
func lockEnv(environ []string, c config.Config, name string, held *lock.Held) []string {
	all := slices.DeleteFunc(strings.Fields(variable(environ, envHeld)), func(entry string) bool {
		return strings.HasPrefix(entry, heldKey(c, name))
	})
	all = append(all, fmt.Sprintf("%s%s@%v", heldKey(c, name), held.Where(), frame.Token(held.Token())))
	env := append(withoutLock(environ),
		envLock+"="+name,
		envToken+"="+frame.Token(held.Token()).String(),
		envServers+"="+strings.Join(c.Zookeeper.Servers, ","),
		envHeld+"="+strings.Join(all, " "))
	if held.Slot() > 0 {
		env = append(env, fmt.Sprintf("%s=%d", envSlot, held.Slot()))
	}
	return env
}

// heldAbove tells by which node the lock is held by whoever started us; "" when it is by
// nobody.
func heldAbove(environ []string, c config.Config, name string) (where string, token uint64, err error) {
	for entry := range strings.FieldsSeq(variable(environ, envHeld)) {
		at, ok := strings.CutPrefix(entry, heldKey(c, name))
		if !ok {
			continue
		}
		where, text, _ := strings.Cut(at, "@")
		var token frame.Token
		if err := token.UnmarshalText([]byte(text)); err != nil {
			return "", 0, usageError{fmt.Errorf("%s: %q is not what agent lock wrote there; unset it", envHeld, entry)}
		}
		return where, uint64(token), nil
	}
	return "", 0, nil
}

func heldKey(c config.Config, name string) string { return c.Fleet + "/" + name + "=" }

// variable is the value that an environment's last entry of the name gives.
func variable(environ []string, name string) string {
	for _, entry := range slices.Backward(environ) {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// withoutOurs is an environment without what agent id and agent elect give a command.
func withoutOurs(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return name == "TURNSTILE_ID" || name == "TURNSTILE_ID_TOKEN" || name == "TURNSTILE_ELECTION_TOKEN"
	})
}
