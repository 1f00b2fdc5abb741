package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// What a worker does when machines check together, beside what one machine's check does.

// fresh does what is asked through a descriptor that is opened for it alone.
func (w *worker) fresh(r request) (a answer, err error) {
	f, err := w.disk.open(r.Name, os.O_RDWR|r.Flags)
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return countRanges(f, r)
}

// shut closes a file, if it is open.
func (w *worker) shut(name string) error {
	f := w.files[name]
	if f == nil {
		return nil
	}
	delete(w.files, name)
	return f.Close()
}

// block is what several ranges hold, one after the other, and where they are.
func block(r request) (content []byte, offset int64) {
	_, offset = rangeOf(r.Range)
	for i := range r.Count {
		one, _ := rangeOf(r.Range + i)
		content = append(content, one...)
	}
	return content, offset
}

// writeBlock writes ranges as an agent writes a turn: in one write, or where a write has a
// bound in ascending pieces, each done before the next; then has them synced.
func writeBlock(f file, r request) error {
	content, offset := block(r)
	for len(content) > 0 {
		piece := content
		if r.Piece > 0 {
			piece = content[:min(r.Piece, len(content))]
		}
		n, err := f.WriteAt(piece, offset)
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		content, offset = content[n:], offset+int64(n)
	}
	if err := f.Datasync(); err != nil {
		return fmt.Errorf("fdatasync: %w", err)
	}
	return nil
}

// peekBlock reads ranges that somebody may be writing. A beginning of them is what a
// reader may see; a gap in it is not.
func peekBlock(f file, r request) (answer, error) {
	want, offset := block(r)
	got := make([]byte, len(want))
	n, err := f.ReadAt(got, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return answer{}, fmt.Errorf("read: %w", err)
	}
	whole := bytes.Equal(got[:n], want[:n])
	return answer{Same: whole && n == len(want), Parts: !whole}, nil
}

// pageSize divides the offset, the length and the buffer's place of what countRanges reads,
// because some file systems take nothing else with O_DIRECT.
const pageSize = 4096

// countRanges reads the file from its beginning, and counts which of the ranges are not
// what was written.
func countRanges(f file, r request) (a answer, err error) {
	_, end := rangeOf(r.Range + r.Count)
	room := make([]byte, (end+2*pageSize)/pageSize*pageSize) // large enough that it begins at a page
	n, err := f.ReadAt(room, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return a, fmt.Errorf("read: %w", err)
	}
	for i := range r.Count {
		want, offset := rangeOf(r.Range + i)
		from := min(offset, int64(n))
		got := room[from:min(offset+rangeLen, int64(n))]
		if bytes.Equal(got, want) {
			continue
		}
		a.Bad++
		if len(bytes.Trim(got, "\x00")) == 0 {
			a.Zero++
		}
	}
	return a, nil
}
