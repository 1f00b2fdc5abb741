package adopt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"strings"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// edition says who wrote head.
type edition int

const (
	none    edition = iota // there is no head
	first                  // JSON
	second                 // ours
	damaged                // nobody, as it stands there
)

// known is what ZooKeeper says of the file.
type known struct {
	edition edition
	head    frame.Head // of the first edition, only what that had
	version int32      // head's, -1 when there is none
}

// look reads head behind a quorum, and then the nodes of turns/, and makes sure that what
// must not run does not.
func (a *adoption) look(ctx context.Context) (err error) {
	if a.known, err = a.readHead(ctx); err != nil {
		return err
	}
	if err := a.alone(ctx); err != nil {
		return err
	}
	if a.nodes, err = a.listNodes(ctx); err != nil {
		return err
	}
	atStep("listed")
	return nil
}

func (a *adoption) readHead(ctx context.Context) (known, error) {
	head, version, err := filelock.FreshHead(ctx, a.Sess, a.Root)
	switch {
	case err == nil:
		return known{second, head, version}, nil
	case errors.Is(err, filelock.ErrNoHead):
		return known{none, frame.Head{}, version}, nil
	case version < 0:
		return known{}, err
	}
	there, err2 := a.Sess.Get(ctx, a.Root.Head())
	switch {
	case err2 != nil:
		return known{}, fmt.Errorf("read head: %w", err2)
	case there.Stat.Version != version:
		return known{}, a.overtaken()
	}
	if head, ok := firstHead(there.Data); ok {
		return known{first, head, version}, nil
	}
	if errors.Is(err, frame.ErrFormat) && !bytes.HasPrefix(there.Data, []byte("{")) {
		return known{}, &writer.RefusedError{
			Why:  fmt.Sprintf("a newer program than this one keeps this fleet's head: %v", err),
			Next: "nothing was changed; use that program's `agent adopt`",
		}
	}
	a.Log.Warn(fmt.Sprintf("head cannot be read: %v", err))
	return known{damaged, frame.Head{}, version}, nil
}

// firstHead reads head as the first edition wrote it.
func firstHead(data []byte) (frame.Head, bool) {
	var old struct {
		Incarnation uuid.UUID   `json:"incarnation"`
		Turn        uint64      `json:"turn"`
		Offset      int64       `json:"offset"`
		Sum         frame.Sum   `json:"sum"`
		Token       frame.Token `json:"token"`
	}
	err := json.Unmarshal(data, &old)
	return frame.Head{
		Incarnation: old.Incarnation, Turn: old.Turn, Offset: old.Offset, Sum: old.Sum, Token: old.Token,
	}, err == nil && old.Incarnation != uuid.Nil && old.Offset > 0
}

// oldQueue and oldHalt are nodes of the first edition.
func (a *adoption) oldQueue() string { return path.Join(string(a.Root), "queue") }
func (a *adoption) oldHalt() string  { return path.Join(string(a.Root), "halt") }

// alone refuses while agents run that must not: on SMB any, and those of the first edition.
func (a *adoption) alone(ctx context.Context) error {
	if !a.Alone && a.known.edition != first {
		return nil
	}
	why := "on SMB no agent may run while the file is adopted: a reconnect opens by path"
	dirs := []string{a.Root.Agents()}
	if a.known.edition == first {
		why = "the fleet is of the first edition, whose agents must have stopped before the file is carried over"
		dirs = append(dirs, a.oldQueue())
	}
	for _, dir := range dirs {
		names, err := a.Sess.Children(ctx, dir)
		if err != nil && !errors.Is(err, zk.ErrNoNode) {
			return fmt.Errorf("list the agents: %w", err)
		}
		if len(names) > 0 {
			return &writer.RefusedError{
				Why:  fmt.Sprintf("%s, and %s has %s", why, dir, strings.Join(names, ", ")),
				Next: "nothing was changed; stop them (who was killed goes with its session, within seconds), then type it again",
			}
		}
	}
	return nil
}

// fence is the first edition's file beside the file: a receipt for the last turn.
func (a *adoption) fence() string { return a.File.Path + ".fence" }

// receipt reads what the first edition's fence knows to be committed; ok is false when
// there is no fence, or it cannot be read.
func (a *adoption) receipt() (turn uint64, offset int64, ok bool) {
	h, err := a.fs().Open(a.fence(), a.File.Mode.Flags())
	if err != nil {
		return 0, 0, false
	}
	defer h.Close()
	var room [512]byte
	n, err := h.ReadAt(room[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, false
	}
	var said struct {
		Turn   uint64 `json:"turn"`
		Offset int64  `json:"offset"`
	}
	text, sum, found := bytes.Cut(bytes.TrimRight(room[:n], " \n"), []byte(" crc="))
	ok = found && string(sum) == fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)) && json.Unmarshal(text, &said) == nil
	return said.Turn, said.Offset, ok
}

func (a *adoption) fs() writer.FS {
	if a.File.FS == nil {
		return writer.OS{}
	}
	return a.File.FS
}
