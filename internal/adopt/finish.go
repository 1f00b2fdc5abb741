package adopt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// unfinished tells whether head is of an adoption whose copy has not taken the file's place
// yet, or of one that has not cleared away what was before. If the fleet went on since, or
// something else is wrong with the file, it is adopted anew, which clears that away too.
func (a *adoption) unfinished(ctx context.Context) (bool, error) {
	head := a.known.head
	if a.known.edition != second {
		return false, nil
	}
	pending, err := a.files.Exists(a.files.Next())
	if err != nil || pending {
		return pending, err
	}
	if head.Agent != agentName || head.Start != head.Line {
		return false, nil
	}
	remains, err := a.remains(ctx)
	if err != nil || !remains {
		return false, err
	}
	return a.files.EndsWith(head.Line, head.Offset)
}

// remains tells whether there is something of an earlier incarnation or edition that an
// adoption would have cleared away.
func (a *adoption) remains(ctx context.Context) (bool, error) {
	if len(a.older()) > 0 {
		return true, nil
	}
	if fence, err := a.files.Exists(a.fence()); err != nil || fence {
		return fence, err
	}
	for _, node := range []string{a.oldHalt(), a.oldQueue()} {
		inside, err := a.Sess.Children(ctx, node)
		if err == nil && len(inside) == 0 {
			return true, nil
		}
		if err != nil && !errors.Is(err, zk.ErrNoNode) {
			return false, err
		}
	}
	return false, nil
}

// older are the nodes of incarnations before head's.
func (a *adoption) older() (older []node) {
	for _, n := range a.nodes {
		if n.Incarnation != a.files.ID {
			older = append(older, n)
		}
	}
	return older
}

// finish gives the copy the file's name, and deletes what is not needed any more: the nodes
// of older incarnations, and what the first edition left. head is published.
func (a *adoption) finish(ctx context.Context) (Result, error) {
	a.Tell("giving the copy the file's name", 0, 0)
	if err := a.moveIn(); err != nil {
		return Result{}, err
	}
	if err := a.dropOlder(ctx); err != nil {
		return Result{}, err
	}
	if err := a.dropFirst(ctx); err != nil {
		return Result{}, err
	}
	atStep("done")
	if err := a.report(); err != nil {
		return Result{}, err
	}
	return a.result, nil
}

// moveIn takes the steps of writer.Adoption.
func (a *adoption) moveIn() error {
	if err := a.isOurs(); err != nil {
		return err
	}
	for range 100 {
		done, err := a.files.Step()
		if err != nil || done {
			atStep("moved")
			return err
		}
		atStep("step")
	}
	return fmt.Errorf("somebody else keeps renaming %s; stop that, then type it again", a.File.Path)
}

// isOurs makes sure that the copy is the one that head speaks of.
func (a *adoption) isOurs() error {
	pending, err := a.files.Exists(a.files.Next())
	if err != nil || !pending {
		return err
	}
	ours, err := a.files.Begins(a.files.Next(), a.head.Line)
	if err == nil && !ours {
		err = &writer.RefusedError{
			Why:  fmt.Sprintf("%s does not have the line of incarnation %s at byte %d", a.files.Next(), a.head.Incarnation, a.head.Line),
			Next: "nothing was changed; give it another name (mv), then `agent adopt` goes on from what " + a.File.Path + " holds",
		}
	}
	return err
}

// batch is how many nodes one request deletes.
const batch = 64

// dropOlder deletes the nodes of older incarnations. All that is in them was written into
// the copy or saved before head was published; what was not is saved now.
func (a *adoption) dropOlder(ctx context.Context) error {
	older := a.older()
	if len(older) == 0 {
		return nil
	}
	f, err := writer.OpenReader(a.File.Path, a.File.Mode)
	if err != nil {
		return err
	}
	defer f.Close()
	lost, err := placeless(older, f)
	if err == nil {
		err = a.saveLost(lost)
	}
	if err == nil {
		err = a.files.SyncDir()
	}
	if err != nil {
		return err
	}
	for nodes := range slices.Chunk(older, batch) {
		paths := make([]string, len(nodes))
		for i, n := range nodes {
			paths[i] = n.path
		}
		if err := filelock.DropTurns(ctx, a.Sess, paths); err != nil {
			return fmt.Errorf("the file is adopted, and nodes of what was before stay: %w; type it again", err)
		}
		atStep("dropped")
	}
	return nil
}

// dropFirst removes what only the first edition used. Its fence goes with the old file, so
// that the two are a file of the first edition as they were.
func (a *adoption) dropFirst(ctx context.Context) error {
	to := a.files.Was() + ".fence"
	moved, err := a.files.SetAside(a.fence(), to)
	if err != nil {
		return fmt.Errorf("set the first edition's fence aside: %w", err)
	}
	if moved {
		a.result.Notes = append(a.result.Notes, fmt.Sprintf("the fence of the first edition is %s now; it is not needed any more", to))
		if err := a.files.SyncDir(); err != nil {
			return err
		}
	}
	atStep("fence")
	for _, node := range []string{a.oldHalt(), a.oldQueue()} {
		atStep("first")
		switch err := queue.Remove(ctx, a.Sess, node); {
		case errors.Is(err, zk.ErrNotEmpty):
			a.result.Notes = append(a.result.Notes, fmt.Sprintf("%s of the first edition stays, for something stands in it", node))
		case err != nil:
			return err
		}
	}
	return nil
}

// report names what was left beside the file.
func (a *adoption) report() error {
	a.result.Head = a.head
	if there, err := a.files.Exists(a.files.Was()); err != nil {
		return err
	} else if there {
		a.result.Was = a.files.Was()
	}
	if a.result.Finished { // it was said before it was killed, or not
		for _, name := range []string{a.files.Lost(), a.files.Foreign()} {
			if there, err := a.files.Exists(name); err != nil {
				return err
			} else if there && !slices.ContainsFunc(a.result.Saved, func(s string) bool { return strings.HasPrefix(s, name) }) {
				a.result.Saved = append(a.result.Saved, name+": what found no place in the file")
			}
		}
	}
	if there, err := a.files.Exists(a.File.Path + ".orphans"); err == nil && there {
		a.result.Notes = append(a.result.Notes, a.File.Path+".orphans stays as it is: ends of the file that the first edition has cut off")
	}
	left, err := a.files.Leftovers()
	for _, name := range left {
		a.result.Notes = append(a.result.Notes, fmt.Sprintf("%s was left by an adoption that came to nothing; unless one is under way it is not needed (rm)", name))
	}
	return err
}
