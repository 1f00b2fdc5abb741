package verify

import (
	"context"
	"io"
	"sync"
)

const (
	// calmBytes is how far the judge reads on its own before reading ahead, at
	// first; mostCalm is how far at most after it had to be begun again.
	calmBytes = 256 << 10
	mostCalm  = 32 << 20
	batches   = 4
	batchSize = 1 << 20
	batchMost = 4096 // frames in a batch
	workers   = 2
)

// ahead reads and hashes what the judge will come to next. It finds facts, never
// verdicts, so nothing depends on it but speed: it follows the lengths that
// headers promise, and where they lead nowhere it ends and the judge reads on its
// own.
type ahead struct {
	r       io.ReaderAt
	size    int64 // what may be read
	stopAt  int64 // no frame is begun from here on
	cancel  context.CancelFunc
	running sync.WaitGroup
	free    chan *batch
	ordered chan *batch
	now     *batch
	next    int      // in now
	all     []*batch // kept from one begin to the next
}

// batch is some whole frames that lie one after the other.
type batch struct {
	buf    []byte
	have   int64 // how much of buf was read
	start  int64
	pieces []piece
	done   chan struct{}
}

// begin reads ahead from pos on, until stop.
func (a *ahead) begin(ctx context.Context, pos int64) {
	ctx, a.cancel = context.WithCancel(ctx)
	a.free = make(chan *batch, batches)
	a.ordered = make(chan *batch, batches)
	work := make(chan *batch, batches)
	for len(a.all) < batches {
		a.all = append(a.all, &batch{buf: make([]byte, batchSize), pieces: make([]piece, 0, batchMost)})
	}
	for _, b := range a.all {
		b.done = make(chan struct{}, 1)
		a.free <- b
	}
	a.running.Go(func() {
		defer close(a.ordered)
		defer close(work)
		a.split(ctx, pos, work)
	})
	for range workers {
		a.running.Go(func() { a.work(ctx, work) })
	}
}

// split cuts the file into batches. The channels have room for every batch there
// is, so sending never waits.
func (a *ahead) split(ctx context.Context, pos int64, work chan<- *batch) {
	for pos < a.stopAt {
		var b *batch
		select {
		case b = <-a.free:
		case <-ctx.Done():
			return
		}
		n, err := a.r.ReadAt(b.buf[:min(int64(batchSize), a.size-pos)], pos)
		if err != nil && err != io.EOF {
			return // the judge will meet the error itself
		}
		b.start, b.have = pos, int64(n)
		if pos = b.cut(b.buf[:n], a.size, a.stopAt); len(b.pieces) == 0 {
			return
		}
		work <- b
		a.ordered <- b
	}
}

// cut finds the frames in view and returns where the next one begins. A frame
// larger than a batch makes one of its own.
func (b *batch) cut(view []byte, size, stopAt int64) int64 {
	pos := b.start
	b.pieces = b.pieces[:0]
	for len(b.pieces) < batchMost && pos < stopAt {
		p, ok := parsePiece(view[pos-b.start:], pos)
		if !ok || p.end > size {
			break
		}
		inside := p.end <= b.start+int64(len(view))
		if !inside && (len(b.pieces) > 0 || int64(p.Bytes) <= int64(len(b.buf))/2) {
			break // the next batch begins with it
		}
		b.pieces = append(b.pieces, p)
		pos = p.end
		if !inside {
			break
		}
	}
	return pos
}

func (a *ahead) work(ctx context.Context, work <-chan *batch) {
	big := newTape(a.r, a.size, longView)
	for b := range work {
		for i := range b.pieces {
			if ctx.Err() != nil || !b.measure(i, big) {
				b.pieces = b.pieces[:i] // the judge will meet the error itself
				break
			}
		}
		b.done <- struct{}{}
	}
}

func (b *batch) measure(i int, big *tape) bool {
	p := &b.pieces[i]
	if p.inc != nil {
		return true
	}
	if from, to := p.body-b.start, p.end-b.start; to <= b.have {
		p.measure(b.buf[from:to])
	} else if big.measure(p) != nil {
		return false
	}
	if i > 0 && b.pieces[i-1].inc == nil {
		p.after = b.pieces[i-1].Sum
		p.follows = p.Seal(p.after, p.payload) == p.Sum
	}
	return true
}

// at gives the piece at pos, or nil when it was not found ahead. It is good until
// the next call.
func (a *ahead) at(pos int64) *piece {
	for a.cancel != nil {
		if a.now == nil {
			b, ok := <-a.ordered
			if !ok {
				break
			}
			<-b.done
			a.now, a.next = b, 0
		}
		for ; a.next < len(a.now.pieces); a.next++ {
			if p := &a.now.pieces[a.next]; p.at == pos {
				a.next++
				return p
			} else if p.at > pos {
				a.stop()
				return nil
			}
		}
		a.free <- a.now
		a.now = nil
	}
	a.stop()
	return nil
}

// stop ends all that begin started, and returns when it has ended.
func (a *ahead) stop() {
	if a.cancel == nil {
		return
	}
	a.cancel()
	a.running.Wait()
	a.cancel, a.now = nil, nil
}
