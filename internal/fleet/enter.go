package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// enter registers the agent, under the same name as before if that is still free, makes
// sure that it shares its volume with all others, and that its file is the fleet's.
func (a *Agent) enter(ctx context.Context, sess Session) (*filelock.Queue, error) {
	if err := filelock.Ensure(ctx, sess, a.Root); err != nil {
		return nil, err
	}
	me := filelock.Member{Host: a.Host, BootID: a.BootID, Since: a.Now().UTC(), Life: a.life.Name()}
	name, err := a.register(ctx, sess, member{Member: me, Run: a.run.String()})
	if err != nil {
		return nil, err
	}
	a.name, me.Agent, a.told = name, name, ""
	a.scribe.named(name)
	// From here on the volume is asked, which may hang: the fleet is told that, and goes on.
	err = a.scribe.do(ctx, func(ctx context.Context) error {
		a.scribe.marker = me.Life
		return a.scribe.remark(ctx, sess)
	})
	if err != nil {
		return nil, err
	}
	me.Life = a.life.Name()
	if err := a.shareVolume(ctx, sess); err != nil {
		return nil, err
	}
	if err := a.scribe.do(ctx, a.scribe.look); err != nil {
		return nil, err
	}
	// Only now are the markers there known to be this fleet's.
	if err := a.scribe.do(ctx, func(ctx context.Context) error { return a.scribe.tidyLives(ctx, sess) }); err != nil {
		return nil, err
	}
	a.scribe.enters()
	if a.Named != nil {
		a.Named(name)
	}
	a.Log.Info("in the fleet", zap.String("agent", name), zap.String("fleet", string(a.Root)),
		zap.Duration("session_timeout", sess.Timeout()))
	return filelock.New(sess, a.Root, me, a.life.Watch, a.Log), nil
}

// endLife takes our marker away. A volume that hangs must not keep the agent from ending.
func (a *Agent) endLife() {
	done := make(chan struct{})
	go func() { // ends with the operation, or with the process
		defer close(done)
		a.life.End()
	}()
	select {
	case <-done:
	case <-time.After(a.scribe.limit()):
		a.Log.Error("our marker beside the file cannot be removed: the volume does not answer", zap.String("file", a.File.Path))
	}
}

// remark makes our marker again if somebody has removed it, and tells the fleet.
func (s *scribe) remark(ctx context.Context, sess Session) error {
	if s.Lives == nil || s.life.Name() == "" {
		return nil
	}
	err := s.volume("look at our marker", func() error {
		stands, err := s.Lives.Stands(s.life.Name())
		if err != nil || stands {
			return err
		}
		s.Log.Warn("our marker beside the file was removed: making it again")
		return s.life.Renew(s.run.String())
	})
	if err != nil || s.life.Name() == s.marker {
		return err
	}
	if err := s.update(ctx, sess, func(me *member) { me.Life = s.life.Name() }); err != nil {
		return err
	}
	s.marker = s.life.Name()
	return nil
}

// tidyLives clears away what the dead left beside the file.
func (s *scribe) tidyLives(ctx context.Context, sess Session) error {
	return s.volume("clear away old markers", func() error {
		s.life.Sweep(func() (names []string, err error) {
			s.begins(time.Time{}) // it is ZooKeeper that we wait for now
			defer func() { s.begins(time.Now()) }()
			return lives(ctx, sess, s.Root)
		})
		return nil
	})
}

// shareVolume makes sure that the marker of every live member stands on our volume, now
// that ours stands and we are registered: of two that mounted different volumes at least
// one finds the other's missing. Directory caches may hide a fresh one for a while. A
// member that dies meanwhile is out of the list, not missing.
func (a *Agent) shareVolume(ctx context.Context, sess Session) error {
	if a.Lives == nil {
		return nil
	}
	if a.life.Name() == "" {
		return &writer.RefusedError{
			Why:  fmt.Sprintf("no marker can be made in %s.alive, by which agents see that they share a volume", a.File.Path),
			Next: "make the directory of the data file writable for this agent",
		}
	}
	waited := map[string]time.Time{} // for whose marker, since when
	// One that has gone without a good-bye is listed until its session expires.
	patience := max(a.File.Mode.Patience(), 2*sess.Timeout())
	for {
		var absent *member
		err := a.scribe.do(ctx, func(ctx context.Context) (err error) { absent, err = a.scribe.absent(ctx, sess); return err })
		if err != nil || absent == nil {
			return err
		}
		since, waiting := waited[absent.Life]
		if waiting && time.Since(since) > patience {
			return &writer.RefusedError{
				Why:  fmt.Sprintf("agent %s on host %s does not use the volume of %s: its marker is not in %s.alive", absent.Agent, absent.Host, a.File.Path, a.File.Path),
				Next: "nothing was changed; give all agents of the fleet the same file on the same volume (--data), or this one a fleet of its own (--fleet)",
			}
		}
		if !waiting {
			waited[absent.Life] = time.Now()
			a.Log.Warn("waiting for the marker of an agent of the fleet: it should be beside our file, and is not there yet",
				zap.String("agent", absent.Agent), zap.String("host", absent.Host), zap.Duration("for", patience))
		}
		if err := rest(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
}

// absent is a live member whose marker is not on our volume, nil when there is none.
func (s *scribe) absent(ctx context.Context, sess Session) (*member, error) {
	all, err := members(ctx, sess, s.Root)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, m := range all {
		if m.Life == "" || m.Run == s.run.String() {
			continue
		}
		var stands bool
		err := s.volume("look for the marker of "+m.Agent, func() (err error) { stands, err = s.Lives.Stands(m.Life); return err })
		errs = append(errs, err)
		if err == nil && !stands {
			return &m, nil
		}
	}
	return nil, errors.Join(errs...)
}
