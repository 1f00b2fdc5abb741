package writer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// compare holds the file to head and to what the fence noted, and refuses what cannot
// be explained. start is where the last committed turn begins, tail how many bytes of a
// dead holder lie behind it. Nothing is changed.
func (f *File) compare(noted record, token frame.Token, head frame.Head) (start, tail int64, err error) {
	if err := f.openData(os.O_RDWR | os.O_APPEND); err != nil {
		return 0, 0, err
	}
	if err := f.checkIncarnation(noted); err != nil {
		return 0, 0, err
	}
	info, err := f.data.Stat()
	if err != nil {
		return 0, 0, err
	}
	if info.Size < head.Offset {
		return 0, 0, &RefusedError{fmt.Sprintf("%s has %d bytes, but %d are committed: data was lost", f.path, info.Size, head.Offset), nextAdopt}
	}
	if start, err = f.checkLast(noted, head); err != nil {
		return 0, 0, err
	}
	if tail = info.Size - head.Offset; tail > 0 {
		err = f.judgeTail(token, head, tail)
	}
	return start, tail, err
}

// checkLast makes sure that the last committed turn is the one that head names, and tells
// where it begins: a file that was restored to an older state may have another turn of
// the same size there, which was never committed. It goes from header to header, beginning
// with the turn that the fence has noted.
func (f *File) checkLast(noted record, head frame.Head) (start int64, err error) {
	at, turn := noted.Start, noted.Turn
	if noted.Start < noted.Offset {
		turn-- // it begins there
	}
	start = at
	for ; turn < head.Turn; turn++ {
		line, err := f.lineAt(at)
		if err != nil {
			return 0, err
		}
		last, err := frame.ParseHeader(line)
		start, at = at, at+int64(len(line)+1+last.Bytes)
		if err != nil || last.Turn != turn+1 || last.Turn == head.Turn && (at != head.Offset || last.Sum != head.Sum) {
			return 0, f.otherTurn(turn+1, start)
		}
	}
	return start, nil
}

func (f *File) otherTurn(turn uint64, at int64) error {
	return &RefusedError{fmt.Sprintf("%s does not have turn %d as it was committed, at byte %d: the file was restored to an older state, or swapped", f.path, turn, at), nextAdopt}
}

// checkIncarnation makes sure that the file is the one that fence and head speak
// of, and not another that was copied over it.
func (f *File) checkIncarnation(r record) error {
	line, err := f.lineAt(r.Line)
	if err != nil {
		return err
	}
	i, err := frame.ParseIncarnation(line)
	if err == nil && i.ID == r.Incarnation {
		return nil
	}
	return &RefusedError{fmt.Sprintf("%s does not have the line of incarnation %s at byte %d: the file was swapped", f.path, r.Incarnation, r.Line), nextAdopt}
}

// judgeTail refuses a tail that is not what one dead holder can have left: a frame of
// the next turn, whole, cut short, or with holes of zeros after a power loss.
func (f *File) judgeTail(token frame.Token, head frame.Head, size int64) error {
	begin := fmt.Appendf(nil, "#turn %d ", head.Turn+1)
	look := make([]byte, min(int64(len(begin)), size)+1)
	if _, err := f.data.ReadAt(look, head.Offset-1); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s at byte %d: %w", f.path, head.Offset-1, err)
	}
	unexplained := func(what string) error {
		return &RefusedError{fmt.Sprintf("%s has %d bytes after head that are %s", f.path, size, what), nextAdopt}
	}
	switch {
	case look[0] != '\n':
		return unexplained("not the beginning of a line: head is not at a turn's end")
	case !isTorn(look[1:], begin):
		return unexplained("no turn's beginning: something else writes to the file")
	}
	line, err := f.lineAt(head.Offset)
	if err != nil {
		return err
	}
	most := int64(frame.MaxLine + frame.MaxBytes)
	header, err := frame.ParseHeader(line)
	switch {
	case err == nil && header.Token > token:
		return fmt.Errorf("%w: it wrote turn %d with token %v, ours is %v", ErrFenced, header.Turn, header.Token, token)
	case err == nil:
		most = int64(len(line) + 1 + header.Bytes)
	case line != nil && !bytes.Contains(line, []byte{0}): // complete, without a hole, and yet no header
		return unexplained("no turn's beginning: something else writes to the file")
	}
	if size > most {
		return unexplained("more than one turn: ZooKeeper went back in time, or something else writes to the file")
	}
	return nil
}

// quarantine copies the tail to a file of its own, and cuts it off only when the copy
// is on disk.
func (f *File) quarantine(token frame.Token, head frame.Head, tail int64) (orphan string, err error) {
	dir := f.path + ".orphans"
	if err := f.fs.Mkdir(dir); err != nil {
		return "", fmt.Errorf("set the uncommitted tail aside: %w", err)
	}
	name := filepath.Join(dir, fmt.Sprintf("turn-%d-offset-%d-found-by-%v", head.Turn+1, head.Offset, token))
	orphan, err = f.copyOut(name, head.Offset, tail)
	for _, d := range []string{dir, filepath.Dir(f.path)} {
		if err == nil {
			err = f.fs.SyncDir(d)
		}
	}
	if err != nil {
		return "", fmt.Errorf("set the uncommitted tail aside (nothing was cut): %w", err)
	}
	if err := f.data.Truncate(head.Offset); err != nil {
		return "", fmt.Errorf("cut the uncommitted tail: %w", err)
	}
	if err := f.data.Sync(); err != nil {
		return "", fmt.Errorf("%w: cut the uncommitted tail: %w", ErrSync, err)
	}
	f.log.Warn("put the uncommitted tail of a dead holder aside", zap.String("orphan", orphan), zap.Int64("bytes", tail))
	return orphan, nil
}

// copyOut copies size bytes from an offset to a new file called name, or name with
// a number, and syncs it.
func (f *File) copyOut(name string, from, size int64) (orphan string, err error) {
	var out Handle
	path := name
	for n := 1; ; n++ {
		if n > 1 { // an earlier try of this turn failed half-way
			path = fmt.Sprintf("%s-%d", name, n)
		}
		if out, err = f.fs.Open(path, os.O_RDWR|os.O_CREATE|os.O_EXCL); !errors.Is(err, os.ErrExist) {
			break
		}
	}
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			_ = f.fs.Remove(path) // half a copy, of what is still in the file
		}
	}()
	if n, err := io.Copy(out, io.NewSectionReader(f.data, from, size)); err != nil || n < size {
		return "", errors.Join(err, fmt.Errorf("copied %d of %d bytes", n, size))
	}
	return path, out.Sync()
}

// isTorn tells whether content can be what a crash or a power loss left of a write
// that began with want: cut short, with zeros where a sector did not reach the disk.
func isTorn(content, want []byte) bool {
	if len(content) > len(want) {
		return false
	}
	for i, c := range content {
		if c != 0 && c != want[i] {
			return false
		}
	}
	return true
}
