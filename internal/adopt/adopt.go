// Package adopt goes on with a file that ZooKeeper does not know, or knows otherwise: after
// ZooKeeper was wiped or restored, after the file was restored or written to by something
// else, with a log that existed before Turnstile, with what the first edition left.
//
// It verifies the file from itself and begins a new incarnation, in a copy: the file that
// the fleet had stays as it was, under another name.
//
// # The steps
//
// Head is read and turns/ listed before the file is copied, so that what is not in the copy
// has a node. The turns that the copy lacks are written into it; the line of the new
// incarnation is appended; it is synced and verified. Then, as holder of a turn, so that
// nobody commits meanwhile, head is published, if it is still the one that the copy was
// verified against; a fleet that went on has what is new copied and verified. Before that,
// what has no place in the copy is saved in files of its own. Only then the file gets
// another name, and the copy the file's (see [writer.Adoption]); and only when that is on
// disk are the nodes of older incarnations deleted.
//
// # What is promised
//
// No byte is lost, and none is doubled. Killed at any step and started again, it ends the
// same way: before head is published nothing has happened, and afterwards what is left to
// do is seen from what stands there, so that it may be done late, and twice. Two that
// adopt at the same time cannot both publish.
//
// A whole frame behind head is kept. In this edition there is one when ZooKeeper went back
// in time. In the first, which wrote before it committed, a holder that died may have left
// one: its records may then be in the file twice, if their source has sent them again;
// cutting them off could lose what ZooKeeper has forgotten.
package adopt

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// Options for Run. Sess, Root, File.Path and Host are required.
type Options struct {
	Sess filelock.Session
	Root filelock.Root
	File writer.Options // FS, if it is set, must be a writer.AdoptFS
	Host string
	// Alone says that no agent may run meanwhile: on SMB a reconnect opens by path again.
	Alone bool
	// AcceptLoss adopts a file that lacks turns which were committed.
	AcceptLoss bool
	// AsPreamble takes the whole file as bytes that no frame covers, faults and all.
	AsPreamble bool
	// Tell, when set, is told what is being done, and how far that is; total is 0 when it
	// cannot be said.
	Tell func(what string, done, total int64)
	Log  *zap.Logger // may be nil
}

// Result is what was done.
type Result struct {
	Head     frame.Head
	Was      string   // the file as it was; empty when there was none left
	Saved    []string // files with what found no place, each with a word what it is
	Notes    []string // what else is worth knowing
	Finished bool     // an adoption that was begun earlier was brought to its end
}

// FaultsError says that more is wrong with the file than an unfinished end. Nothing was
// changed.
type FaultsError struct{ Report verify.Report }

func (e *FaultsError) Error() string {
	return "not adopted: more is wrong than an unfinished end; --as-preamble takes the file as it is, faults and all"
}

// agentName is who has committed a head that an adoption published.
const agentName = "adopt"

// atStep is told each step, so that tests can kill us there.
var atStep = func(step string) {}

// adoption is one run.
type adoption struct {
	Options
	files  *writer.Adoption
	known  known  // what ZooKeeper says, which the copy is made by
	nodes  []node // of turns/, listed after known was read and before the copy was made
	copy   *writer.Copy
	basis  basis
	head   frame.Head // to be published
	result Result
}

// Run adopts the file, or goes on with an adoption that was not finished. The errors: a
// [writer.RefusedError], a *FaultsError, those of ZooKeeper and of the volume.
func Run(ctx context.Context, o Options) (Result, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Tell == nil {
		o.Tell = func(string, int64, int64) {}
	}
	a := &adoption{Options: o}
	if err := filelock.Ensure(ctx, o.Sess, o.Root); err != nil {
		return Result{}, err
	}
	if err := a.look(ctx); err != nil {
		return Result{}, err
	}
	a.files = writer.NewAdoption(o.File, a.known.head.Incarnation)
	unfinished, err := a.unfinished(ctx)
	switch {
	case err != nil:
		return Result{}, err
	case unfinished:
		a.head, a.result.Finished = a.known.head, true
		return a.finish(ctx)
	}
	return a.begin(ctx)
}

// begin makes the copy and publishes its head.
func (a *adoption) begin(ctx context.Context) (Result, error) {
	a.files = writer.NewAdoption(a.File, uuid.New())
	if there, err := a.files.Exists(a.File.Path); err != nil || !there {
		return Result{}, errors.Join(err, a.nothing())
	}
	published, err := a.publish(ctx)
	if err != nil && !published {
		return Result{}, errors.Join(err, a.discard())
	}
	a.copy.Close()
	if err != nil {
		return Result{}, err
	}
	return a.result, nil
}

func (a *adoption) nothing() error {
	return &writer.RefusedError{
		Why:  fmt.Sprintf("there is no %s: there is nothing to adopt", a.File.Path),
		Next: fmt.Sprintf("nothing was changed; give the right path (--data). If the file is really gone, make an empty one (: > %s), then `agent adopt --accept-loss` begins anew", a.File.Path),
	}
}

func (a *adoption) discard() error {
	if a.copy == nil {
		return nil
	}
	return a.copy.Discard()
}

// publish makes the copy, publishes its head as holder of a turn, and moves the copy in.
// published says that it may have been: the copy must stay.
func (a *adoption) publish(ctx context.Context) (published bool, err error) {
	if err := a.make(ctx); err != nil {
		return false, err
	}
	a.Tell("waiting for the turn", 0, 0)
	line := filelock.NewAdopter(a.Sess, a.Root, filelock.Member{Agent: agentName, Host: a.Host}, a.Log)
	hold, err := a.takeTurn(ctx, line)
	if err != nil {
		return false, err
	}
	defer hold.Release()
	atStep("turn")
	if err := a.catchUp(ctx, hold); err != nil {
		return false, err
	}
	if err := a.save(ctx); err != nil {
		return false, err
	}
	if err := a.copy.Stands(); err != nil {
		return false, err
	}
	atStep("saved")
	err = hold.Publish(ctx, a.head)
	if err == nil {
		a.head, _ = hold.Head()
	} else if errors.Is(err, filelock.ErrUnknown) {
		err = a.settle(ctx, line, hold)
	}
	if err != nil {
		return errors.Is(err, filelock.ErrUnknown), err
	}
	atStep("published")
	a.result, err = a.finish(context.WithoutCancel(ctx))
	return true, err
}

// takeTurn waits for the turn. A place that is lost is taken again: the fleet may queue
// elsewhere by now.
func (a *adoption) takeTurn(ctx context.Context, line *filelock.Queue) (*filelock.Hold, error) {
	for tries := 0; ; tries++ {
		place, err := line.Join(ctx)
		if err != nil {
			return nil, err
		}
		hold, err := place.Wait(ctx)
		if !errors.Is(err, filelock.ErrLost) || a.Sess.Err() != nil || tries == 10 {
			return hold, err
		}
	}
}

// settle finds out whether head was published. When that cannot be known, the error wraps
// ErrUnknown.
func (a *adoption) settle(ctx context.Context, line *filelock.Queue, hold *filelock.Hold) error {
	head, err := line.Settle(context.WithoutCancel(ctx), hold)
	switch {
	case err != nil:
		return fmt.Errorf("%w (%w): type it again", filelock.ErrUnknown, err)
	case head.Incarnation != a.head.Incarnation:
		return fmt.Errorf("publish head: %w: type it again", filelock.ErrLost)
	}
	a.head = head
	return nil
}

// catchUp makes sure, as holder of a turn, that the copy is of what head says now. A fleet
// that went on meanwhile has what is new copied and verified.
func (a *adoption) catchUp(ctx context.Context, hold *filelock.Hold) error {
	if head, _ := hold.Head(); hold.Version() != a.known.version || head != a.known.head && a.known.edition == second {
		before := a.known
		if err := a.look(ctx); err != nil {
			return err
		}
		if a.known.edition != before.edition || a.known.head.Incarnation != before.head.Incarnation {
			return a.overtaken()
		}
		if err := a.make(ctx); err != nil {
			return err
		}
	}
	if hold.Version() != a.known.version {
		return a.overtaken()
	}
	return a.alone(ctx)
}

func (a *adoption) overtaken() error {
	return &writer.RefusedError{
		Why:  fmt.Sprintf("somebody else began or adopted %s at the same time", a.File.Path),
		Next: "nothing was changed by this one; look at `agent status`, then type it again if it is still needed",
	}
}
