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

// clear makes the file end at head.Offset, or refuses. The tail of a dead holder
// is put aside; orphan is where.
func (f *File) clear(admitted record, head frame.Head) (orphan string, err error) {
	if err := f.openData(os.O_RDWR | os.O_APPEND); err != nil {
		return "", err
	}
	if err := f.checkIncarnation(admitted); err != nil {
		return "", err
	}
	info, err := f.data.Stat()
	if err != nil {
		return "", err
	}
	switch {
	case info.Size == head.Offset:
		return "", nil
	case info.Size < head.Offset:
		return "", &RefusedError{fmt.Sprintf("%s has %d bytes, but %d are committed: data was lost", f.path, info.Size, head.Offset), nextAdopt}
	}
	if err := f.judgeTail(admitted.Token, head, info.Size-head.Offset); err != nil {
		return "", err
	}
	return f.quarantine(admitted.Token, head, info.Size)
}

// checkIncarnation makes sure that the file is the one that fence and head speak
// of, and not another that was copied over it.
func (f *File) checkIncarnation(r record) error {
	line, err := readLine(f.data, r.Line)
	if err == nil {
		var i frame.Incarnation
		if i, err = frame.ParseIncarnation(line); err == nil && i.ID != r.Incarnation {
			err = fmt.Errorf("it is of incarnation %s", i.ID)
		}
	}
	if err != nil {
		return &RefusedError{fmt.Sprintf("%s does not have the line of incarnation %s at byte %d (%v): the file was swapped", f.path, r.Incarnation, r.Line, err), nextAdopt}
	}
	return nil
}

// judgeTail refuses a tail that may be more than one uncommitted frame.
func (f *File) judgeTail(token frame.Token, head frame.Head, size int64) error {
	several := &RefusedError{
		fmt.Sprintf("%s has %d bytes after head, more than one turn: ZooKeeper went back in time, or something else writes to the file", f.path, size), nextAdopt,
	}
	line, err := readLine(f.data, head.Offset)
	var header frame.Header
	if err == nil {
		header, err = frame.ParseHeader(line)
	}
	if err != nil { // a torn header, or what a power loss made of it
		if size > frame.MaxLine+frame.MaxBytes {
			return several
		}
		return nil
	}
	switch {
	case header.Token > token:
		return fmt.Errorf("%w: it wrote turn %d with token %v, ours is %v", ErrFenced, header.Turn, header.Token, token)
	case header.Turn != head.Turn+1, size > int64(len(line)+1+header.Bytes):
		return several
	}
	return nil
}

// quarantine copies everything from head.Offset on to a file of its own, and cuts
// it off only when the copy is on disk.
func (f *File) quarantine(token frame.Token, head frame.Head, size int64) (orphan string, err error) {
	dir := f.path + ".orphans"
	if err := f.fs.Mkdir(dir); err != nil {
		return "", fmt.Errorf("set the uncommitted tail aside: %w", err)
	}
	orphan = filepath.Join(dir, fmt.Sprintf("turn-%d-offset-%d-found-by-%v", head.Turn+1, head.Offset, token))
	err = f.copyOut(orphan, head.Offset, size)
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
	f.log.Warn("put the uncommitted tail of a dead holder aside", zap.String("orphan", orphan), zap.Int64("bytes", size-head.Offset))
	return orphan, nil
}

func (f *File) copyOut(to string, from, size int64) (err error) {
	out, err := f.fs.Open(to, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	// The same holder may try again after an error; what an earlier try left
	// there is of the same tail.
	if err := out.Truncate(0); err != nil {
		return err
	}
	if _, err := io.Copy(out, io.NewSectionReader(f.data, from, size-from)); err != nil {
		return err
	}
	return out.Sync()
}

// isTornPrefix tells whether content is what a crash or a power loss can leave of
// a first write of want.
func isTornPrefix(content, want []byte) bool {
	return bytes.HasPrefix(want, content) || len(content) <= len(want) && len(bytes.Trim(content, "\x00")) == 0
}
