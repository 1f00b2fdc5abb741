package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/lifeline"
	"github.com/turnstile-fleet/turnstile/internal/queue"
)

// userLives is where this user's processes on this machine notice each other's death, for
// what has no data file beside which they could: a directory under os.TempDir. When
// there can be none it is nil, and a death is noticed when the session expires.
func userLives(log *zap.Logger, names ...string) queue.Lifelines {
	top := filepath.Join(os.TempDir(), fmt.Sprintf("turnstile-%d", os.Getuid()))
	dir := filepath.Join(append([]string{top}, names...)...)
	err := ownDir(top)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		log.Warn("should this process be killed, the others wait until its session expires", zap.Error(err))
		return nil
	}
	return lifeline.Dir(dir)
}

// ownDir makes a directory that is ours alone, and refuses one that is not: whoever can
// write there could tell of deaths that did not happen.
func ownDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm()&0o077 != 0 || int(stat.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a directory of this user alone: remove it", dir)
	}
	return nil
}
